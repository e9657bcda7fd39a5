"""Refuses illegal characters in text before they reach a tokenizer, which would crash or train on them."""

import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputError

# Lone surrogates, and control characters except tab and line breaks.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def require_legal(value: Any, where: str) -> None:
    """Raises InputError if a text, or any text inside lists and maps, contains an illegal character."""
    for inside, text in [("", value)] if isinstance(value, str) else _texts(value):
        if (found := _ILLEGAL.search(text)) is not None:
            raise InputError(f"{where}{inside} holds {_describe(text, found.start())}")


def is_name(name: str) -> bool:
    """Whether a file may have this name, which appears in errors and columns."""
    return not _ILLEGAL.search(name) and not set(name) & set("\t\n\r")


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Texts with their path inside the value; not recursive, since data may be nested deeply."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        inside, item = rest.pop()
        if isinstance(item, str):
            yield inside, item
        elif isinstance(item, dict):
            rest += [(f"{inside}.{key}", each) for key, each in reversed(item.items())]
            rest += [(f"{inside} key", key) for key in item]
        elif isinstance(item, list):
            rest += [(f"{inside}[{index}]", each) for index, each in reversed([*enumerate(item)])]


def _describe(text: str, at: int) -> str:
    code = ord(text[at])
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    character = f"U+{code:04X}, at character {column}" + (f" of its line {line}" if "\n" in text else "")
    if 0xDC80 <= code <= 0xDCFF:  # how Python decodes invalid bytes
        return f"byte {code - 0xDC00:#04x}, which is not UTF-8, at character {column}; write the text as UTF-8"
    if code >= 0xD800:
        return f"half a surrogate pair, {character}; write the whole character or remove it"
    if code == 0:
        return f"a NUL character, {character}; remove it, or save the file as UTF-8 if it is UTF-16"
    if code >= 0x80:
        meant = bytes([code]).decode("cp1252", "ignore")
        hint = f"; it was {meant!r} before Windows-1252 was read as Latin-1" if meant else ""
        return f"a control character, {character}{hint}; correct or remove it"
    return f"a control character, {character}; remove it"
