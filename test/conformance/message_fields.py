"""The fields of every message of messages.py as JSON, which messages.test.ts compares with the zod schemas."""

import json
import sys
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from prelort_worker.wire.messages import PROTOCOL_VERSION, ClientColumns, ControllerMessage, WorkerMessage


def describe(kind: Any) -> Any:
    """A type as the test spells it: a map of fields for a dataclass, otherwise text such as `integer ≥ 0`."""
    if is_dataclass(kind) and isinstance(kind, type):
        return {field.name.rstrip("_"): describe(hint) for field, hint in hints_of(kind)}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return f"integer ≥ {arguments[1].minimum}"
    if origin is Literal:
        return sorted(arguments)
    if origin in (Union, UnionType):
        return {"one of": [describe(each) for each in arguments]}
    if origin is list:
        return {"list of": describe(arguments[0])}
    if origin is dict:
        return {"map to": describe(arguments[1])}
    names = {float: "number", bool: "boolean", str: "string", bytes: "bytes", memoryview: "bytes", type(None): "null"}
    return names[kind]


def hints_of(record: Any) -> list[Any]:
    hints = get_type_hints(record, include_extras=True)
    return [(field, hints[field.name]) for field in fields(record)]


messages = {
    side: {message.__name__.lower(): describe(message) for message in get_args(union)}
    for side, union in (("controller", ControllerMessage), ("worker", WorkerMessage))
}
json.dump({"version": PROTOCOL_VERSION, "clients": describe(ClientColumns), **messages}, sys.stdout)
