"""Equivalent forms of a conversation: a chat template accepts content or arguments only in some of them."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from .conversation import Message

# Newer and older names of roles.
_SYNONYMS = {"developer": "system", "function": "tool"}


def equivalent_forms(messages: list[Message]) -> Iterator[list[Message]]:
    """The messages as given, then the other equivalent forms that some templates need."""
    seen: list[list[Message]] = []
    for arguments in (_as_came, _as_map, _as_text):
        for rename, fill, join in product((False, True), repeat=3):
            form = [_formed(message, arguments, rename, fill, join) for message in messages]
            if form not in seen:
                seen.append(form)
                yield form


def _formed(message: Message, arguments: Callable[[Any], Any], rename: bool, fill: bool, join: bool) -> Message:
    formed = dict(message)
    if rename:
        formed["role"] = _SYNONYMS.get(message["role"], message["role"])
    if fill:
        formed.setdefault("content", "")
    if join and isinstance(message.get("content"), list):
        formed["content"] = _joined([part["text"] for part in message["content"]])
    if "tool_calls" in message:
        formed["tool_calls"] = [with_arguments(call, arguments(arguments_of(call))) for call in message["tool_calls"]]
    return formed


def _joined(texts: Iterable[str]) -> str:
    """Joins parts; puts those without white space between them on separate lines."""
    joined = ""
    for text in texts:
        is_apart = not joined or not text or joined[-1].isspace() or text[0].isspace()
        joined += text if is_apart else f"\n{text}"
    return joined


def without(message: Message, names: Iterable[str]) -> Message:
    return {key: value for key, value in message.items() if key not in names}


def arguments_of(call: Message) -> Any:
    return call["function"].get("arguments")


def with_arguments(call: Message, arguments: Any) -> Message:
    return call if arguments is None else {**call, "function": {**call["function"], "arguments": arguments}}


def without_arguments(call: Message) -> Message:
    """The call with empty arguments, in the same form."""
    arguments = arguments_of(call)
    return with_arguments(call, {} if isinstance(arguments, dict) else "{}") if arguments else call


def _as_came(arguments: Any) -> Any:
    return arguments


def _as_map(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _as_text(arguments: Any) -> Any:
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments
