"""Converts maps to dataclasses and back, and names the key that does not fit: the validation behind messages.py."""

import math
import reprlib
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class RecordError(ValueError):
    """A map that does not fit; the message says which key, what was expected and what came."""


@dataclass(frozen=True)
class AtLeast:
    minimum: int


# JavaScript's largest safe integer, which is also zod's limit.
LARGEST = 2**53 - 1

Count: TypeAlias = Annotated[int, AtLeast(0)]
Positive: TypeAlias = Annotated[int, AtLeast(1)]


def to_map(record: Any) -> dict[str, Any]:
    """Removes a trailing `_` from field names, which stands for keys that are Python keywords."""
    return {field.name.rstrip("_"): _plain(getattr(record, field.name)) for field in fields(record)}


def from_map(cls: type[T], value: Any, where: str) -> T:
    """`value` as a `cls`, or a RecordError that names the key. Errors call the map `where`."""
    if not isinstance(value, dict):
        raise RecordError(f"{where}: expected a map, got {describe(value)}")
    hints = _hints(cls)
    names = {field.name.rstrip("_"): field.name for field in fields(cls)}  # pyright: ignore[reportArgumentType]
    if missing := names.keys() - value.keys():
        raise RecordError(f"{where}: missing {', '.join(sorted(missing))}")
    if unknown := value.keys() - names.keys():
        raise RecordError(f"{where}: unknown {', '.join(sorted(map(str, unknown)))}")
    return cls(**{name: _read(hints[name], value[key], f"{where}.{key}") for key, name in names.items()})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_map(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def describe(value: Any) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}"


def _read(expected: Any, value: Any, where: str) -> Any:
    """`value` as the type that `expected` spells, or a RecordError that names the key."""
    if is_dataclass(expected) and isinstance(expected, type):
        return from_map(expected, value, where)
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        kind, bound = arguments
        number = _read(kind, value, where)
        if number < bound.minimum:
            raise RecordError(f"{where}: expected at least {bound.minimum}, got {number}")
        if number > LARGEST:
            raise RecordError(f"{where}: expected at most {LARGEST}, got {describe(number)}")
        return number
    if origin is Literal:
        if value not in arguments:
            raise RecordError(f"{where}: expected one of {', '.join(arguments)}, got {describe(value)}")
        return value
    if origin in (Union, UnionType):
        return _read_union(arguments, value, where)
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_read(str, key, where): _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if expected is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if expected is int and type(value) is float and value.is_integer():  # JavaScript's integers beyond 32 bits
        return int(value)
    if expected in (int, bool, str, bytes, memoryview, type(None)) and type(value) is expected:
        return value
    raise RecordError(f"{where}: expected {_spell(expected)}, got {describe(value)}")


def _read_union(alternatives: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in alternatives:
        return None
    *others, last = (alternative for alternative in alternatives if alternative is not type(None))
    for alternative in others:
        try:
            return _read(alternative, value, where)
        except RecordError:
            continue
    return _read(last, value, where)


def _spell(expected: Any) -> str:
    origin = get_origin(expected)
    names = {
        float: "a finite number",
        int: "an integer",
        bool: "true or false",
        str: "a string",
        bytes: "bytes",
        memoryview: "a frame of bytes",
        list: "a list",
        dict: "a map",
    }
    return names.get(origin or expected, "null")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
