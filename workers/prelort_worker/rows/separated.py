"""
Reads CSV and TSV files, including those that spreadsheets write: with another delimiter than the suffix says, a first
line `sep=;`, spaces around column names, and unnamed empty columns or empty rows at the end.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ..errors import InputError, RowFaults
from .row import Row
from .text import read_text

_DELIMITERS = (",", ";", "\t")
# A whole line, with any empty columns that a spreadsheet adds.
_SEP = re.compile(r'"?sep=([^"\r\n])"?\1*(?=[\r\n]|$)', re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    path: Path
    text: str
    delimiter: str
    # Lines before the header.
    skipped: int = 0
    # Whether a space follows each delimiter, as in `text, topic`.
    has_spaces: bool = False

    def records(self, faults: RowFaults) -> Iterator[tuple[str, list[str]]]:
        """Records with the location of their first line; a field may span lines. Skips blank lines."""
        csv.field_size_limit(2**31 - 1)  # the default of 131,072 characters is too short for documents
        lines = StringIO(self.text, newline="")
        for _ in range(self.skipped):
            lines.readline()
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.has_spaces)
        while True:
            where = f"{self.path}:{self.skipped + reader.line_num + 1}"
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if str(error) == "unexpected end of data":
                    faults.add(where, "a quote opened on this line is never closed")
                else:
                    faults.add(where, f"is not valid {self.path.suffix[1:].upper()} from here on: {error}")
                return
            if fields:
                yield where, fields

    def header(self) -> list[str]:
        return next((fields for _, fields in self.records(RowFaults())), [])


def read_separated(path: Path, delimiter: str, faults: RowFaults) -> Iterator[Row]:
    table = _table_of(path, delimiter)
    records = table.records(faults)
    head, header = next(records, ("", []))
    names = _names(head, header)
    blank: list[tuple[str, list[str]]] = []
    for where, fields in records:
        if len(fields) > 1 and not any(fields):
            blank.append((where, fields))  # dropped if no record follows
            continue
        for at, values in [*blank, (where, fields)]:
            if len(values) < len(names) or any(values[len(names) :]):
                faults.add(at, _wrong_count(table, names, values))
            else:
                yield Row(at, dict(zip(names, values, strict=False)))
        blank = []


def _table_of(path: Path, delimiter: str) -> _Table:
    text = read_text(path)
    if told := _SEP.match(text):
        table = _Table(path, text, told[1], 1)
    else:
        tables = [_Table(path, text, each) for each in dict.fromkeys([delimiter, *_DELIMITERS])]
        table = tables[0] if len(tables[0].header()) > 1 else max(tables, key=lambda each: len(each.header()))
    names = table.header()
    has_spaces = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    return _Table(path, text, table.delimiter, table.skipped, has_spaces)


def _names(head: str, header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        hint = "; the index that pandas writes there is left out with to_csv(index=False)" if not names[0] else ""
        raise InputError(f"{head}: column {names.index('') + 1} of the header has no name{hint}")
    if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
        raise InputError(f"{head}: the header names column {repeated[0]!r} twice; each needs a name of its own")
    return names


def _wrong_count(table: _Table, names: list[str], fields: list[str]) -> str:
    others = [each for each in _DELIMITERS if each != table.delimiter and any(each in name for name in names)]
    hint = f"; if {others[0]!r} is the delimiter, write sep={others[0]} as the first line" if others else ""
    return (
        f"expected {len(names)} fields as in the header ({', '.join(names)}), got {len(fields)}; "
        f"a field that contains {table.delimiter!r}, a quote or a line break must be quoted{hint}"
    )
