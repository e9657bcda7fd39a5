"""Credentials are read by the trackers' own clients, from environment variables. None may get into what we say."""

import os
import re

_SECRET_NAME = re.compile(r"TOKEN|KEY|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
# Shorter values are words that occur by chance.
_SHORTEST = 6
_LONGEST = 600


def in_words(error: Exception) -> str:
    """The first line of what a client raised: the others are hints to its own users, or a database's statements."""
    lines = str(error).strip().splitlines() or ["no more is known"]
    return without_secrets(f"{type(error).__name__}: {lines[0]}")[:_LONGEST]


def without_secrets(text: str) -> str:
    """The text without the values of variables that hold secrets, and without user and password of URLs."""
    values = [value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return _IN_URL.sub("***@", text)
