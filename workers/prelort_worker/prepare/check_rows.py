"""Checks what every task requires of rows, for all rows before any is encoded."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import MOST_ROWS, InputError, Problems, RowFaults, list_rows
from ..rows.legal import require_legal
from ..rows.row import Row
from ..rows.templates import category, check_template, column_value, fill
from ..tasks.task import Task
from ..wire.specs import DataSpec
from .spellings import remark_spellings


@dataclass
class CheckedRows:
    rows: Sequence[Row]
    # By index; without rows whose labels cannot be read.
    labels: dict[int, tuple[str, ...]] = field(default_factory=dict)
    # Indices of rows with faults.
    faulty: set[int] = field(default_factory=set)
    # Counts of each value as written, by the config key of the column.
    spellings: dict[str, Counter[str]] = field(default_factory=dict)
    # Rows for which a template gives only whitespace, by config key: the first ten, and the count.
    blank: dict[str, tuple[list[str], int]] = field(default_factory=dict)

    def usable(self) -> list[Row]:
        return [self.rows[index] for index in range(len(self.rows)) if index not in self.faulty]

    def remarks(self) -> list[str]:
        """Warnings about rows that can be used all the same."""
        blank = [f"{list_rows(rows, count)}: {option} is blank" for option, (rows, count) in self.blank.items()]
        return [*blank, *(line for option, found in self.spellings.items() for line in remark_spellings(option, found))]


def check_rows(task: Task, data: DataSpec, rows: Sequence[Row], by: str | None, problems: Problems) -> CheckedRows:
    """Adds all faults of rows to `problems`. `by` is the column of their partition."""
    checked = CheckedRows(rows)
    checks = _checks(task, data, by, checked)
    faults = RowFaults()
    for index, row in enumerate(rows):
        before = faults.count
        for option, check in checks:
            with faults.of(row.where, option):
                check(index, row)
        if faults.count > before:
            checked.faulty.add(index)
    with problems.gathered():
        faults.raise_any(len(rows))
    return checked


def check_templates(data: DataSpec, problems: Problems) -> None:
    """Adds the faults of templates that no row could fill."""
    for option, template in _templates(data):
        with problems.gathered(option):
            check_template(template, option)


def _templates(data: DataSpec) -> list[tuple[str, str]]:
    given = (("data.text", data.text), ("data.prompt", data.prompt), ("data.answer", data.answer))
    return [(option, template) for option, template in given if template is not None]


# What one config key requires of the row at an index; raises InputError.
_Check = Callable[[int, Row], object]


def _checks(task: Task, data: DataSpec, by: str | None, checked: CheckedRows) -> list[tuple[str, _Check]]:
    """Checks by config key; leaves out templates that no row could fill."""
    checks: list[tuple[str, _Check]] = []
    for option, template in _templates(data):
        with suppress(InputError):  # check_templates reports it
            check_template(template, option)
            checks.append((option, _filled(template, option, checked)))
    if (messages := data.messages) is not None:
        checks.append(("data.messages", lambda _, row: _legal(row, messages, "data.messages")))
    if (image := data.image) is not None:
        checks.append(("data.image", lambda _, row: column_value(row, image, "data.image")))
    checks.append(("data.label", _labelled(task, data, checked)))
    if by is not None:
        checks.append(("data.partition.by", _kind(by, "data.partition.by", checked)))
    return checks


def _filled(template: str, option: str, checked: CheckedRows) -> _Check:
    def check(_: int, row: Row) -> None:
        if not fill(template, row, option).strip() and option != "data.prompt":
            rows, count = checked.blank.get(option, ([], 0))
            checked.blank[option] = ([*rows, row.where][:MOST_ROWS], count + 1)

    return check


def _labelled(task: Task, data: DataSpec, checked: CheckedRows) -> _Check:
    spelt = None
    if data.label is not None and type(task).label is Task.label and type(task).labels_of is Task.labels_of:
        spelt = _kind(data.label, "data.label", checked)

    def check(index: int, row: Row) -> None:
        checked.labels[index] = task.labels_of(row, data)
        if spelt is not None:
            spelt(index, row)

    return check


def _kind(column: str, option: str, checked: CheckedRows) -> _Check:
    spellings = checked.spellings.setdefault(option, Counter())

    def check(_: int, row: Row) -> None:
        text = category(row, column, option)
        value = column_value(row, column, option)
        spellings[json.dumps(text, ensure_ascii=False) if value == text else text] += 1

    return check


def _legal(row: Row, column: str, option: str) -> None:
    require_legal(column_value(row, column, option), f"{row.where}: column {column!r} ({option})")
