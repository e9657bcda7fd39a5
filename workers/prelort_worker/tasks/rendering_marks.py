"""
Marks put into a conversation before it is rendered, which show what a chat template leaves out; and what data looks
like where a template writes it in the wrong form.
"""

import json
import re
from collections.abc import Iterator
from typing import TypeAlias

from .chat_forms import arguments_of, with_arguments
from .conversation import Message

# The index of a message and the number of a part of its content, as they are written.
Mark: TypeAlias = tuple[str, str]

_MARK = re.compile(r"zq(\d+)x(\d+)qz")
_MARKED_ARGUMENTS = '{"zq": "qz"}'


def mark_messages(messages: list[Message]) -> list[Message]:
    """A mark at the end of every text, and one in place of all arguments given as text."""
    marked = []
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, str):
            message = {**message, "content": _with_mark(content, index, 0)}
        elif content is not None:
            parts = [{**part, "text": _with_mark(part["text"], index, number)} for number, part in enumerate(content)]
            message = {**message, "content": parts}
        if calls := message.get("tool_calls"):
            message = {**message, "tool_calls": [_with_marked_arguments(call) for call in calls]}
        marked.append(message)
    return marked


def marks_of(messages: list[Message]) -> Iterator[tuple[int, Mark]]:
    """The marks of each message that a rendering of them all should hold."""
    for index, message in enumerate(messages):
        for number, part in enumerate(text_parts(message.get("content", ""))):
            if part["text"].strip():
                yield index, (str(index), str(number))


def marks_in(text: str) -> set[Mark]:
    return set(_MARK.findall(text))


def encodes_arguments(marked: str) -> bool:
    """Whether the template encodes arguments given as text, which are JSON already, as JSON once more."""
    return json.dumps(_MARKED_ARGUMENTS) in marked


def mangled_data(message: Message, encodes_text: bool) -> Iterator[str]:
    """
    What data of the message looks like where a template that does not know its form writes it; `encodes_text`: also
    arguments given as text.
    """
    for part in message["content"] if isinstance(message.get("content"), list) else []:
        yield str(part)
        yield json.dumps(part, ensure_ascii=False)
    for call in message.get("tool_calls", []):
        arguments = arguments_of(call)
        if isinstance(arguments, str) and encodes_text:
            yield json.dumps(arguments, ensure_ascii=False)
        elif isinstance(arguments, dict) and str(arguments) != json.dumps(arguments, ensure_ascii=False):
            yield str(arguments)


def text_parts(content: str | list[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _with_marked_arguments(call: Message) -> Message:
    return with_arguments(call, _MARKED_ARGUMENTS) if isinstance(arguments_of(call), str) else call


def _with_mark(text: str, index: int, number: int) -> str:
    said = text.rstrip()
    return f"{said}zq{index}x{number}qz{text[len(said) :]}" if said else text
