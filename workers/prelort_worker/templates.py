"""Examples of a JSONL file and the templates over their columns."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Example:
    """One line of the file; `where` is `file:line`."""

    where: str
    columns: dict[str, Any]


def read_examples(path: Path) -> list[Example]:
    if not path.is_file():
        raise InputError(f"{path}: no such file (data.path)")
    examples = list(_parse_lines(path))
    if not examples:
        raise InputError(f"{path}: holds no examples; expected one JSON object a line")
    return examples


def fill(template: str, example: Example, option: str) -> str:
    """`"{word}: {gloss}"` with the example's columns; `{{` and `}}` are braces. `option` is what errors call it."""
    parts = []
    for literal, column, form, conversion in Formatter().parse(template):
        parts.append(literal)
        if column is not None:
            if form or conversion or not column.isidentifier():
                raise InputError(
                    f"{option}: expected column names alone between braces, such as {{text}}, in {template!r}"
                )
            parts.append(column_text(example, column, option))
    return "".join(parts)


def column_text(example: Example, column: str, option: str) -> str:
    if column not in example.columns:
        there = ", ".join(sorted(example.columns)) or "none"
        raise InputError(f"{example.where}: has no column {column!r}, which {option} needs; its columns are: {there}")
    value = example.columns[column]
    if not isinstance(value, str | int | float):
        raise InputError(
            f"{example.where}: column {column!r} ({option}) is {json.dumps(value)}; expected text or a number"
        )
    return value if isinstance(value, str) else json.dumps(value)


def _parse_lines(path: Path) -> Iterator[Example]:
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            columns = json.loads(line.decode())
        except ValueError as error:
            raise InputError(f"{where}: is not valid JSON: {error}") from error
        if not isinstance(columns, dict):
            raise InputError(f"{where}: expected a JSON object, got {line.decode()[:80]}")
        yield Example(where, columns)
