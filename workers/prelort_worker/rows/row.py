"""One row of the user's data."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`where` names the row in errors: `file.csv:12` (its first line), `squad[train]:7` (its index)."""

    where: str
    columns: dict[str, Any]


def file_order(row: Row) -> list[str | int]:
    """Sort key for the order of rows in their files: line 9 before line 10."""
    # Odd pieces are numbers, so like is compared with like.
    return [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"(\d+)", row.where))]
