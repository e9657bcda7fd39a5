"""Rows of one file that is text, or an image: whatever needs no library. Errors are at `file:line`."""

import csv
import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

from .errors import InputError
from .row import Row

KIND_OF_SUFFIX: dict[str, str] = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **{f".{kind}": kind for kind in ("json", "csv", "tsv", "parquet")},
    **dict.fromkeys((".txt", ".md"), "text"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
}

EXPECTED_IN = {
    "jsonl": "one JSON object a line",
    "json": "a list of JSON objects",
    "csv": "a header and one record a line",
    "tsv": "a header and one record a line",
    "parquet": "at least one row",
    "text": "text",
    "image": "an image",
}


def read_file(path: Path, kind: str) -> list[Row]:
    """Every row of a file of one of the kinds of EXPECTED_IN but parquet."""
    return list(_READERS[kind](path))


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is not valid JSON: {error}") from error
        if not isinstance(columns, dict):
            raise InputError(f"{where}: expected a JSON object, got {line[:80]}")
        yield Row(where, columns)


def _json_list(path: Path) -> Iterator[Row]:
    text = _read_text(path)
    if not text.strip():
        return
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; one JSON object a line is a .jsonl file" if error.msg == "Extra data" else ""
        raise InputError(f"{path}:{error.lineno}: is not valid JSON: {error}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from error
    if not isinstance(items, list):
        got = f"a map of {', '.join(map(repr, items))[:80]}" if isinstance(items, dict) else text[:80]
        raise InputError(f"{path}: expected a list of JSON objects, got {got}")
    for place, columns in enumerate(items):
        if not isinstance(columns, dict):
            raise InputError(f"{path}[{place}]: expected a JSON object, got {json.dumps(columns)[:80]}")
        yield Row(f"{path}[{place}]", columns)


def _separated(path: Path, delimiter: str) -> Iterator[Row]:
    records = _records(path, delimiter)
    head, names = next(records, ("", []))
    if "" in names:
        hint = "; the index that pandas writes there is left out with to_csv(index=False)" if not names[0] else ""
        raise InputError(f"{head}: column {names.index('') + 1} of the header has no name{hint}")
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"{head}: the header names column {repeated[0]!r} twice; each needs a name of its own")
    for where, fields in records:
        if len(fields) != len(names):
            raise InputError(
                f"{where}: expected {len(names)} fields as in the header ({', '.join(names)}), got {len(fields)}; "
                f"a field that holds {delimiter!r}, a quote or a line break stands between quotes"
            )
        yield Row(where, dict(zip(names, fields, strict=True)))


def _records(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Each record with where it begins, which is not where it ends if a field holds line breaks. No blank lines."""
    csv.field_size_limit(2**31 - 1)  # by default 131,072 characters; there are longer documents
    reader = csv.reader(StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}: is not valid {path.suffix[1:].upper()} from here on: {error}") from error
        if fields:
            yield where, fields


def _text(path: Path) -> Iterator[Row]:
    yield Row(str(path), {"text": _read_text(path)})


def _image(path: Path) -> Iterator[Row]:
    yield Row(str(path), {"image": str(path.resolve())})


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "jsonl": _json_lines,
    "json": _json_list,
    "csv": lambda path: _separated(path, ","),
    "tsv": lambda path: _separated(path, "\t"),
    "text": _text,
    "image": _image,
}


def _read_text(path: Path) -> str:
    """As UTF-8, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        content, place = error.object, error.start
        line = content.count(b"\n", 0, place) + 1
        hint = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise InputError(
            f"{path}:{line}: is not UTF-8: byte {content[place]:#04x}{hint}; save the file as UTF-8"
        ) from error
