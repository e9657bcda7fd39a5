"""Fills templates with the columns of a row, and reads single columns as text."""

import json
import math
import re
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from string import Formatter
from typing import Any

from ..errors import InputError
from .legal import require_legal
from .row import Row

_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


def fill(template: str, row: Row, option: str) -> str:
    """
    `"{word}: {gloss}"` with the row's columns; `{translation.en}` and `{answers.text.0}` read inside them; `{{` and
    `}}` are literal braces. Text in `[[ ]]` is left out if a column in it is empty. Errors call the template `option`.
    """
    parts = []
    for index, piece in enumerate(_OPTIONAL.split(template)):
        filled = [
            (literal, None if column is None else column_text(row, column, option))
            for literal, column in _parse(piece, option)
        ]
        if index % 2 == 0 or all(text != "" for _, text in filled):
            parts += [literal + (text or "") for literal, text in filled]
    return "".join(parts)


def columns_of(template: str, option: str) -> tuple[list[str], list[str]]:
    """The columns that a template needs, and those inside `[[ ]]` that it may go without; in their order, each once."""
    pieces = list(enumerate(_OPTIONAL.split(template)))
    needed, optional = (
        [column for index, piece in pieces if index % 2 == odd for _, column in _parse(piece, option) if column]
        for odd in (0, 1)
    )
    return list(dict.fromkeys(needed)), [name for name in dict.fromkeys(optional) if name not in needed]


def check_template(template: str, option: str) -> None:
    """Raises InputError if no row could fill the template."""
    require_legal(template, option)
    for piece in _OPTIONAL.split(template):
        _parse(piece, option)


def column_text(row: Row, column: str, option: str) -> str:
    value = column_value(row, column, option)
    where = f"{row.where}: column {column!r} ({option})"
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{where} is {_show(value)}; expected text or a number")
    if not isinstance(value, str):
        return json.dumps(value)
    require_legal(value, where)
    return value


def category(row: Row, column: str, option: str) -> str:
    """
    The text of a categorical column: a label, or the column of a partition. Refuses missing values, in all the
    spellings that files and libraries use.
    """
    value = column_value(row, column, option)
    if (missing := _missing(value)) is not None:
        raise InputError(
            f"{row.where}: column {column!r} ({option}) is {missing}, a missing value; fill it in or remove the row"
        )
    return column_text(row, column, option)


def categories(row: Row, column: str, option: str, separator: str) -> tuple[str, ...]:
    """The texts of a column that holds several, as a list or separated; each once, sorted. An empty cell has none."""
    value = column_value(row, column, option)
    where = f"{row.where}: column {column!r} ({option})"
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, str):
        require_legal(value, where)
        if value.strip().startswith("[") and value.strip().endswith("]"):
            raise InputError(
                f"{where} is {_show(value)}, a list written as text; expected labels separated by {separator!r} "
                "(data.label_separator), or a JSON list in a JSONL file"
            )
        value = [each.strip() for each in value.split(separator)]
    if not isinstance(value, list):
        raise InputError(f"{where} is {_show(value)}; expected a list of labels, or text")
    for each in value:
        if not isinstance(each, str | int) or isinstance(each, bool) or _missing(each) is not None:
            raise InputError(f"{where} is {_show(row.columns.get(column, value))}, with a label that is {_show(each)}")
        if isinstance(each, str):
            require_legal(each, where)
    return tuple(sorted({each if isinstance(each, str) else json.dumps(each) for each in value}))


def number(row: Row, column: str, option: str) -> float:
    """A column's finite number, or text that is one."""
    value = column_value(row, column, option)
    found = None
    if (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    ):
        with suppress(OverflowError):  # of an integer
            found = float(value)
    if found is None or not abs(found) <= _LARGEST:
        raise InputError(f"{row.where}: column {column!r} ({option}) is {_show(value)}; expected a number")
    return found


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Of float32, which examples hold.
_LARGEST = 3.4028234e38


def _missing(value: Any) -> str | None:
    if value is None:
        return "null"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if not isinstance(value, str):
        return None
    bare = value.strip()
    if not bare:
        return "blank" if value else "empty"
    # How Python, NumPy and pandas write a missing number. Nan is a name.
    return json.dumps(bare) if bare in ("nan", "NaN", "<NA>") else None


def column_value(row: Row, column: str, option: str) -> Any:
    """The column of that name, or the value its dots lead to: keys of maps, indices of lists from 0."""
    if column in row.columns:
        return row.columns[column]
    first, *rest = column.split(".")
    if first not in row.columns or not rest:
        meant = get_close_matches(column, row.columns, 1)
        if option == "data.messages":
            meant = [name for name, value in row.columns.items() if _is_conversation(value)] or meant
        hint = f"did you mean {meant[0]!r}? Its" if meant else "its"
        there = ", ".join(sorted(row.columns)) or "none"
        raise InputError(f"{row.where}: has no column {column!r}, which {option} needs; {hint} columns are: {there}")
    value = row.columns[first]
    for depth, key in enumerate(rest, start=1):
        value = _inside(value, key, f"{row.where}: column {'.'.join([first, *rest[:depth]])!r} ({option})")
    return value


def _is_conversation(value: Any) -> bool:
    """Whether the value is a list of messages, or JSON of one."""
    if isinstance(value, str):
        return value.lstrip().startswith("[{") and any(f'"{key}"' in value for key in ("role", "from"))
    return isinstance(value, list) and any(isinstance(each, dict) and each.keys() & {"role", "from"} for each in value)


def _inside(value: Any, key: str, where: str) -> Any:
    if isinstance(value, dict):
        if key in value:
            return value[key]
        raise InputError(f"{where} does not exist; the map's keys are: {', '.join(map(str, value)) or 'none'}")
    if isinstance(value, list):
        if key.isdecimal() and int(key) < len(value):
            return value[int(key)]
        raise InputError(f"{where} does not exist; expected an index into a list of {len(value)}, from 0")
    raise InputError(f"{where} does not exist; expected a map or a list before the last dot, got {_show(value)}")


@lru_cache
def _parse(template: str, option: str) -> list[tuple[str, str | None]]:
    expected = f"{option}: expected column names alone between braces, such as {{text}}, in {template!r}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"{expected}: {error}; write a literal brace twice") from error
    if any(
        column is not None and (form or conversion or not _is_name(column)) for _, column, form, conversion in parts
    ):
        raise InputError(f"{expected}; write a literal brace twice")
    return [(literal, column) for literal, column, _, _ in parts]


def _is_name(column: str) -> bool:
    return bool(column.strip()) and not set(column) & set("[]{}")


def _show(value: Any) -> str:
    return json.dumps(value, default=lambda other: type(other).__name__)[:200]
