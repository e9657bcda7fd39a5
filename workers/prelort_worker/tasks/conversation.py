"""
Reads a row's conversation as messages for a chat template, from any form: `role` and `content` (OpenAI), `from` and
`value` (ShareGPT), either of them as JSON text, or a prompt and its answer.
"""

import json
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..rows.legal import require_legal
from ..rows.row import Row
from ..rows.templates import column_value, fill
from ..wire.specs import DataSpec
from .text import describe

Message: TypeAlias = dict[str, Any]

# Parts of an assistant's turn besides its content; keys in one group are synonyms.
SAID = (("tool_calls",), ("function_call",), ("reasoning_content", "reasoning", "thinking"), ("refusal",))
_ROLES = {
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model", "bot", "ai"), "assistant"),
}
_SHAREGPT_ROLES = {**_ROLES, **dict.fromkeys(("function", "observation", "function_response"), "tool")}
_EXPECTED = 'expected a list of {"role": "user", "content": "…"}, or of {"from": "human", "value": "…"}'
# Columns besides the messages that a chat template reads.
_VARIABLES = {"tools": list, "documents": list, "chat_template_kwargs": dict}


@dataclass(frozen=True)
class Conversation:
    where: str
    # The config key that errors name.
    option: str
    messages: list[Message]
    # For each message, whether it is an assistant's turn to train on.
    learned: list[bool]
    # Passed to the template besides the messages.
    variables: dict[str, Any]

    def fault(self, index: int, reason: str) -> InputError:
        return InputError(f"{self.where}: message {index + 1}: {reason}", self.option)


def conversation_of(row: Row, data: DataSpec) -> Conversation:
    if data.messages is None:
        prompt, answer = fill(data.prompt or "", row, "data.prompt"), fill(data.answer or "", row, "data.answer")
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return Conversation(row.where, "data.chat", turns, [False, True], {})
    entries = _entries(row, data.messages)
    messages, learned = [], []
    for number, entry in enumerate(entries, start=1):
        require_legal(entry, f"{row.where}: message {number}")
        try:
            message, is_learned = _message(entry, is_sharegpt="from" in entries[0])
        except InputError as error:
            raise InputError(f"{row.where}: message {number}: {error}", "data.messages") from error
        messages.append(message)
        learned.append(is_learned)
    if not any(learned):
        has_spoken = any(message["role"] == "assistant" for message in messages)
        reason = "every turn of the assistant has weight 0" if has_spoken else "the assistant says nothing"
        raise InputError(f"{row.where}: {reason}, so there is nothing to train on", "data.messages")
    if learned[0]:  # finding its start would need to render an empty conversation, which some templates refuse
        raise InputError(
            f"{row.where}: message 1: begins with the assistant; expected the user or the system first, or weight 0",
            "data.messages",
        )
    return Conversation(row.where, "data.messages", messages, learned, _variables(row, data.messages))


def from_json(text: str) -> Any:
    """Parses JSON; raises InputError with the start of the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; it looks like Python's notation: write it with json.dumps" if text.lstrip()[:3] == "[{'" else ""
        raise InputError(f"is text that is not JSON ({error}): {describe(text)}{hint}") from error


def _entries(row: Row, column: str) -> list[Message]:
    """The column's messages, without null keys, which Arrow adds to messages that lack them."""
    value = column_value(row, column, "data.messages")
    try:
        value = from_json(value) if isinstance(value, str) else value
    except InputError as error:
        raise InputError(f"{row.where}: column {column!r} {error}; {_EXPECTED}", "data.messages") from error
    if not isinstance(value, list):
        raise InputError(f"{row.where}: column {column!r} is {describe(value)}; {_EXPECTED}", "data.messages")
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict):
            raise InputError(f"{row.where}: message {number}: is {describe(entry)}; {_EXPECTED}", "data.messages")
    return [{key: item for key, item in entry.items() if item is not None} for entry in value]


def _message(entry: Message, is_sharegpt: bool) -> tuple[Message, bool]:
    """The message for the template, and whether it is trained on."""
    own, other = (("from", "value"), ("role", "content")) if is_sharegpt else (("role", "content"), ("from", "value"))
    if foreign := [key for key in other if key in entry]:
        raise InputError(
            f"has {foreign[0]!r} in a conversation of {own[0]!r} and {own[1]!r}; expected one form throughout"
        )
    role_key, content_key = own
    rest = {key: value for key, value in entry.items() if key not in (*own, "weight", "tool_calls")}
    role = _role(entry.get(role_key), role_key, is_sharegpt)
    content, calls = entry.get(content_key), entry.get("tool_calls")
    if is_sharegpt and role == "function_call":
        role, content, calls = "assistant", None, content
    message: Message = {"role": role}
    if content is not None:
        message["content"] = _content(content)
    if calls is not None and (checked := _calls(calls)):
        message["tool_calls"] = checked
    message.update(rest)
    says_more = role == "assistant" and any(message.get(key) for names in SAID for key in names)
    if content is None and not says_more:
        raise InputError(f"has no {content_key}, or null; expected text")
    return message, _is_learned(entry.get("weight"), role)


def _role(value: Any, key: str, is_sharegpt: bool) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{key} is {describe(value)}; expected a role such as user or assistant")
    role = value.strip().lower()
    return (_SHAREGPT_ROLES if is_sharegpt else _ROLES).get(role, role)


def _is_learned(weight: Any, role: str) -> bool:
    if weight is None:
        return role == "assistant"
    if not isinstance(weight, int | float) or weight not in (0, 1):
        raise InputError(f"weight is {describe(weight)}; expected 0 or 1")
    if weight == 1 and role != "assistant":
        raise InputError(f"weight is 1, but only the assistant's turns are trained on, and its role is {role!r}")
    return weight == 1


def _content(value: Any) -> str | list[Message]:
    """Text, or a list of text parts."""
    if isinstance(value, str):
        return value
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list):
        raise InputError(f"content is {describe(value)}; expected text")
    return [_part(part, number) for number, part in enumerate(parts, start=1)] or ""


def _part(part: Any, number: int) -> Message:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict):
        part = {key: value for key, value in part.items() if value is not None}
        kind = part.get("type", "text")
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            return {**part, "type": "text"}
        if kind != "text":
            raise InputError(f"part {number} of its content is of type {kind!r}; this model reads only text")
    raise InputError(f'part {number} of its content is {describe(part)}; expected {{"type": "text", "text": "…"}}')


def _calls(value: Any) -> list[Message]:
    """Tool calls in OpenAI's form, with arguments as given."""
    try:
        calls = from_json(value) if isinstance(value, str) else value
    except InputError as error:
        raise InputError(f"its tool call {error}") from error
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list):
        raise InputError(f"tool_calls is {describe(value)}; expected a list")
    return [_call(call, number) for number, call in enumerate(calls, start=1)]


def _call(call: Any, number: int) -> Message:
    if isinstance(call, dict):
        call = {key: value for key, value in call.items() if value is not None}
        if "function" not in call:  # a bare function
            function = {key: call.pop(key) for key in ("name", "arguments") if key in call}
            call = {"type": "function", **call, "function": function}
        function = call["function"]
        if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
            _check_arguments(function)
            return {**call, "function": {key: value for key, value in function.items() if value is not None}}
    raise InputError(
        f"tool call {number} is {describe(call)}; expected "
        '{"type": "function", "function": {"name": "…", "arguments": {…}}}'
    )


def _check_arguments(function: Message) -> None:
    """A map, JSON text, or nothing."""
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        try:
            json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise InputError(f"arguments of {function['name']} are not JSON: {describe(arguments)}") from error


def _variables(row: Row, column: str) -> dict[str, Any]:
    """Columns that a template reads, from the row or from the map that holds the messages."""
    beside = row.columns
    if column not in row.columns:
        parent = column_value(row, column.rpartition(".")[0], "data.messages")
        beside = {**beside, **parent} if isinstance(parent, dict) else beside
    found: dict[str, Any] = {}
    # A ShareGPT row's system prompt: no known template reads it, so a remark will report it.
    if isinstance(system := beside.get("system"), str) and system.strip():
        require_legal(system, f"{row.where}: column 'system'")
        found["system"] = system
    for name, kind in _VARIABLES.items():
        value = beside.get(name)
        if not value or (isinstance(value, str) and not value.strip()):
            continue
        try:
            value = _variable(value, kind)
        except InputError as error:
            raise InputError(f"{row.where}: column {name!r} {error}", "data.messages") from error
        require_legal(value, f"{row.where}: column {name!r}")
        found.update(value if kind is dict else {name: value})
    return found


def _variable(value: Any, kind: type) -> Any:
    value = from_json(value) if isinstance(value, str) else value
    if isinstance(value, list):
        value = [from_json(each) if isinstance(each, str) else each for each in value]
    if not isinstance(value, kind) or (kind is list and not all(isinstance(each, dict) for each in value)):
        expected = "a map of the chat template's variables" if kind is dict else "a list of maps"
        raise InputError(
            f"is {describe(value)}, but the chat template takes {expected}; rename the column if it is not for it"
        )
    if kind is dict:
        value = {key: item for key, item in value.items() if item is not None}
    if kind is dict and (reserved := sorted(_RESERVED & value.keys())):
        raise InputError(f"sets {reserved[0]!r}; expected the chat template's own variables")
    return value


# Parameters of transformers itself, among them the template.
_RESERVED = {*signature(PreTrainedTokenizerBase.apply_chat_template).parameters, "messages"}
