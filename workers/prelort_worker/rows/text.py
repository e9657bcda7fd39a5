"""A file's text: UTF-8, or UTF-16 and UTF-32 where a byte order mark says so."""

import codecs
from pathlib import Path

from ..errors import MOST_ROWS, InputError, list_rows

# UTF-32's little-endian mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Bytes by which UTF-16 is told.
_START = 4096


def read_text(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and 4 * content.count(0, 0, _START) > len(content[:_START]):
        raise InputError(f"{path}: looks like UTF-16 without a byte order mark (NUL bytes); save the file as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            told = f"begins with the byte order mark of {encoding.upper()}, and is not valid: {error.reason}"
            raise InputError(f"{path}: {told}; save the file as UTF-8") from error
        raise InputError(_not_utf_8(path, content)) from error


def _not_utf_8(path: Path, content: bytes) -> str:
    """Every line with a byte that is not, and what it would be in the encoding that is likeliest."""
    lines, first, count = [], None, 0
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            first = first or error
            count += 1
            if count <= MOST_ROWS:
                lines.append(f"{path}:{number}")
    assert first is not None
    byte = first.object[first.start]
    meant = bytes([byte]).decode("cp1252", "ignore")
    hint = f" (in Windows-1252, in which Excel saves CSV, it is {meant!r})" if meant else ""
    return f"{list_rows(lines, count)}: is not UTF-8: byte {byte:#04x}{hint}; save the file as UTF-8"
