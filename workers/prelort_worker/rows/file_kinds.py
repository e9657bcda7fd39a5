"""Reads the rows of one text file or image, without any library. Errors name `file:line`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError, RowFaults
from .row import Row
from .separated import read_separated
from .text import read_text

KIND_OF_SUFFIX: dict[str, str] = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **{f".{kind}": kind for kind in ("json", "csv", "tsv", "parquet")},
    **dict.fromkeys((".txt", ".md"), "text"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
}

EXPECTED_IN = {
    "jsonl": "one JSON object per line",
    "json": "a list of JSON objects",
    "csv": "a header and one record per line",
    "tsv": "a header and one record per line",
    "parquet": "at least one row",
    "text": "text",
    "image": "an image",
}


def read_file(path: Path, kind: str, faults: RowFaults) -> list[Row]:
    """All rows of a file of a kind in EXPECTED_IN, except parquet; adds rows that cannot be read to `faults`."""
    return list(_READERS[kind](path, faults))


def _json_lines(path: Path, faults: RowFaults) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(where, f"is not valid JSON: {error}")
            continue
        if isinstance(columns, dict):
            yield Row(where, columns)
        else:
            faults.add(where, f"expected a JSON object, got {line[:80]}")


def _json_list(path: Path, faults: RowFaults) -> Iterator[Row]:
    text = read_text(path)
    if not text.strip():
        return
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; a file with one JSON object per line must end in .jsonl" if error.msg == "Extra data" else ""
        raise InputError(f"{path}:{error.lineno}: is not valid JSON: {error}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from error
    if not isinstance(items, list):
        got = f"a map of {', '.join(map(repr, items))[:80]}" if isinstance(items, dict) else text[:80]
        raise InputError(f"{path}: expected a list of JSON objects, got {got}")
    for index, columns in enumerate(items):
        where = f"{path}[{index}]"
        if isinstance(columns, dict):
            yield Row(where, columns)
        else:
            faults.add(where, f"expected a JSON object, got {json.dumps(columns)[:80]}")


def _text(path: Path, faults: RowFaults) -> Iterator[Row]:
    yield Row(str(path), {"text": read_text(path)})


def _image(path: Path, faults: RowFaults) -> Iterator[Row]:
    yield Row(str(path), {"image": str(path.resolve())})


_READERS: dict[str, Callable[[Path, RowFaults], Iterator[Row]]] = {
    "jsonl": _json_lines,
    "json": _json_list,
    "csv": lambda path, faults: read_separated(path, ",", faults),
    "tsv": lambda path, faults: read_separated(path, "\t", faults),
    "text": _text,
    "image": _image,
}
