"""One row of the user's data."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`where` is what errors call it: `file.csv:12` (the line it begins on), `squad[train]:7` (its index)."""

    where: str
    columns: dict[str, Any]
