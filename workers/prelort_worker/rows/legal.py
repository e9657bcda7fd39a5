"""Characters that text may hold. What is refused here never reaches a tokenizer, which would crash or train on it."""

import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputError

# Half a surrogate pair, and control characters but tab and line breaks.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def require_legal(value: Any, where: str) -> None:
    """Raises InputError where a text, or any text inside lists and maps, holds an illegal character."""
    for inside, text in [("", value)] if isinstance(value, str) else _texts(value):
        if (found := _ILLEGAL.search(text)) is not None:
            raise InputError(f"{where}{inside} holds {_describe(text, found.start())}")


def is_name(name: str) -> bool:
    """Whether a file may be called so: its name stands in errors and columns."""
    return not _ILLEGAL.search(name) and not set(name) & set("\t\n\r")


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Each with where it lies inside; without recursion, since data may be nested deeply."""
    rest: list[tuple[str, Any]] = [("", value)]
    while rest:
        inside, item = rest.pop()
        if isinstance(item, str):
            yield inside, item
        elif isinstance(item, dict):
            rest += [(f"{inside}.{key}", each) for key, each in reversed(item.items())]
            rest += [(f"{inside} key", key) for key in item]
        elif isinstance(item, list):
            rest += [(f"{inside}[{place}]", each) for place, each in reversed([*enumerate(item)])]


def _describe(text: str, place: int) -> str:
    code = ord(text[place])
    line = text.count("\n", 0, place) + 1
    column = place - text.rfind("\n", 0, place)
    at = f"U+{code:04X}, at character {column}" + (f" of its line {line}" if "\n" in text else "")
    if 0xDC80 <= code <= 0xDCFF:  # as Python reads it
        return f"byte {code - 0xDC00:#04x}, which is not UTF-8, at character {column}; write the text as UTF-8"
    if code >= 0xD800:
        return f"half a surrogate pair, {at}; write the whole character or remove it"
    if code == 0:
        return f"a NUL character, {at}; remove it, or save the file as UTF-8 if it is UTF-16"
    if code >= 0x80:
        meant = bytes([code]).decode("cp1252", "ignore")
        hint = f"; it was {meant!r} before Windows-1252 was read as Latin-1" if meant else ""
        return f"a control character, {at}{hint}; correct or remove it"
    return f"a control character, {at}; remove it"
