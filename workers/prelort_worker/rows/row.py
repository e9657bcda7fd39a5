"""One row of the user's data."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`where` is what errors call it: `file.csv:12` (the line it begins on), `squad[train]:7` (its index)."""

    where: str
    columns: dict[str, Any]


def file_order(row: Row) -> list[str | int]:
    """Sorts rows as they lie in their files: line 9 before line 10."""
    # Odd pieces are numbers, so that like is compared with like.
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"(\d+)", row.where))]
