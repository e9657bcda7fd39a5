"""Errors that the user can fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Rows named for one key of the config; the rest are counted.
MOST_ROWS = 10


class InputError(ValueError):
    """
    The data, the model or the config cannot be used; the message says where, and what to do. Reported without a
    traceback. `option` is the config key at fault; where it is None, whoever reports the error knows the section.
    """

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.problems: list[tuple[str | None, str]] = [(option, message)]

    @classmethod
    def of(cls, problems: list[tuple[str | None, str]]) -> InputError:
        """Several problems as one error."""
        error = cls("; ".join(message for _, message in problems))
        error.problems = list(dict.fromkeys(problems))
        return error


class UnpreparedError(Exception):
    """The prepared data is not on this machine: the controller has it prepared here, and tries again."""


class Problems:
    """Collects problems, so that they are reported together."""

    def __init__(self) -> None:
        self._found: list[tuple[str | None, str]] = []

    @contextmanager
    def gathered(self, option: str | None = None) -> Iterator[None]:
        """Keeps an InputError and continues after the block; `option` applies where the error names none."""
        try:
            yield
        except InputError as error:
            self.take(error, option)

    def take(self, error: InputError, option: str | None = None) -> None:
        self._found += [(at or option, message) for at, message in error.problems]

    def add(self, option: str, message: str) -> None:
        self._found.append((option, message))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        if self._found:
            raise InputError.of(self._found)


class RowFaults:
    """
    Collects what is wrong with rows, visited in order. For each config key it names the first ten rows, grouping those
    with the same fault in one message, and counts the rest.

        faults = RowFaults()
        for row in rows:
            with faults.of(row.where, "data.text"):
                …
        faults.raise_any()
    """

    def __init__(self) -> None:
        # By key and reason, in the order of their first rows.
        self._named: dict[tuple[str | None, str], list[str]] = {}
        self._counts: Counter[tuple[str | None, str]] = Counter()
        self._n_named: Counter[str | None] = Counter()
        self._n_others: Counter[str | None] = Counter()
        self.count = 0

    @contextmanager
    def of(self, where: str, option: str | None = None) -> Iterator[None]:
        """
        Keeps an InputError about the row at `where`; pass an empty `where` if the error itself says where. `option`
        applies where the error names none.
        """
        try:
            yield
        except InputError as error:
            for at, message in error.problems:
                self.add(where, message.removeprefix(f"{where}: "), at or option)

    def add(self, where: str, reason: str, option: str | None = None) -> None:
        self.count += 1
        fault = (option, reason)
        is_named = self._n_named[option] < MOST_ROWS
        if is_named:
            self._named.setdefault(fault, []).append(where)
            self._n_named[option] += 1
        if fault in self._named:
            self._counts[fault] += 1
        else:
            self._n_others[option] += 1

    def raise_any(self, total: int | None = None) -> None:
        """`total` is the number of rows: a fault that every row has is reported for the first."""
        if self._named:
            told: list[tuple[str | None, str]] = []
            for (option, reason), rows in self._named.items():
                count = self._counts[option, reason]
                listed = f"{rows[0]} and every other row" if count == total and count > 1 else list_rows(rows, count)
                told.append((option, f"{listed}: {reason}" if listed else reason))
            others = [
                (option, f"{count} more row{'s' if count > 1 else ''} with other faults")
                for option, count in self._n_others.items()
            ]
            raise InputError.of(told + others)


def list_names(names: Sequence[str], most: int = 20) -> str:
    """`query, key and 12 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def list_rows(rows: list[str], count: int) -> str:
    """`a.csv:9, a.csv:35 and 12 more rows`."""
    more = count - len(rows)
    return ", ".join(rows) + (f" and {more} more row{'s' if more > 1 else ''}" if more > 0 else "")
