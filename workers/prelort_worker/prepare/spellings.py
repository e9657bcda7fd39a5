"""Values of a column that are probably meant to be one, since they differ in spelling alone."""

import json
import math
import unicodedata
from collections import Counter

# Groups that are told.
_MOST = 5
# Values of a group, and characters of a value.
_VALUES, _LENGTH = 10, 60
_LIKE_MISSING = ("nan", "none", "null", "na", "n/a", "#n/a", "nil")


def remark_spellings(option: str, found: Counter[str]) -> list[str]:
    """`found` counts values as JSON: 1 and "1" are taken for the same, and could be meant so or not."""
    groups: dict[str, list[str]] = {}
    for value in found:
        groups.setdefault(_bare(value), []).append(value)
    alike = [group for group in groups.values() if len(group) > 1]
    remarks = [
        f"{option}: {_listed(sorted(group), found)} differ only in blanks, case or the spelling of a number; "
        f"{_taken(group)}"
        for group in alike[:_MOST]
    ]
    more = len(alike) - _MOST
    missing = [value for value in found if _bare(value) in _LIKE_MISSING]
    return [
        *remarks,
        *([f"{option}: {more} more groups of values differ only in spelling"] if more > 0 else []),
        *(
            [f"{option}: {_listed(missing, found)} may stand for a missing value; it counts as a value"]
            if missing
            else []
        ),
    ]


def _listed(values: list[str], found: Counter[str]) -> str:
    shown = [
        f"{value if len(value) <= _LENGTH else f'{value[:_LENGTH]}…'} ({found[value]})" for value in values[:_VALUES]
    ]
    return ", ".join(shown) + (f" and {len(values) - _VALUES} more" if len(values) > _VALUES else "")


def _taken(group: list[str]) -> str:
    kinds = {_text(value) for value in group}
    return "they count as one value" if len(kinds) == 1 else f"they count as {len(kinds)} values"


def _text(value: str) -> str:
    read = json.loads(value)
    return read if isinstance(read, str) else value


def _bare(value: str) -> str:
    text = unicodedata.normalize("NFKC", _text(value)).casefold()
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    bare = " ".join(visible.split())
    try:
        number = float(bare)
    except ValueError:
        return bare
    return repr(number) if math.isfinite(number) else bare
