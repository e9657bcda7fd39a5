"""A conversation rendered by a chat template: in which form, where each turn lies in it, and what is left out."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..rows.legal import require_legal
from .chat_forms import arguments_of, equivalent_forms, with_arguments, without_arguments
from .conversation import SAID, Conversation, Message
from .text import describe

# What a template that asks for the date is told, so that the same data gives the same examples on every day. Llama's
# templates take this one where they cannot ask.
TODAY = datetime(2024, 7, 26)
_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_MARK = re.compile(r"zq(\d+)x(\d+)qz")
_MARKED_ARGUMENTS = '{"zq": "qz"}'
_DIFFERS = (
    "the model's chat template writes {what} differently when others follow; split the conversation after this turn, "
    'with "weight": 0 on those of the assistant before it'
)


class Rendering:
    """A conversation in a form that the template takes, and the text that it makes of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: Conversation, messages: list[Message]) -> None:
        self._tokenizer = tokenizer
        self.chat = chat
        self.messages = messages
        self.whole = self.text(messages)
        self._marked = self.text(_marked(messages))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, chat: Conversation) -> "Rendering":
        """
        The first form that the template renders with the calls' arguments, or at least renders; else raises what is
        wrong, beyond what another form mends.
        """
        partial: Rendering | None = None
        faults: dict[str, InputError] = {}
        for messages in equivalent_forms(chat.messages):
            try:
                rendering = cls(tokenizer, chat, messages)
                rendering.check_whole()
                if rendering.uses_arguments():
                    return rendering
                partial = partial or rendering
            except Exception as error:  # a template is a program, which may raise anything
                fault = error if isinstance(error, InputError) else _named(tokenizer, chat, messages, error)
                faults.setdefault(str(fault), fault)
        if partial is not None:
            return partial
        raise list(faults.values())[-1]

    def text(self, messages: list[Message], is_prompt: bool = False) -> str:
        return render(self._tokenizer, messages, self.chat.variables, is_prompt)

    def check_whole(self) -> None:
        """
        Refuses a rendering that lacks the content of a message, writes data as Python or as JSON in JSON, or holds what
        no tokenizer may see, such as half a surrogate pair that stood escaped in a call's arguments.
        """
        require_legal(self.whole, f"{self.chat.where}: as the model's chat template renders it, the conversation")
        found = set(_MARK.findall(self._marked))
        for index, mark in _marks(self.messages):
            if mark not in found:
                alone = _MARK.findall(self.text(_marked(self.messages)[: index + 1]))
                raise self._lost(index, f"its content (role {self.messages[index]['role']!r})", mark in alone)
        encodes_text = json.dumps(_MARKED_ARGUMENTS) in self._marked
        for index, message in enumerate(self.messages):
            mangled = (each for each in _mangled(message, encodes_text) if each in self.whole)
            if (written := next(mangled, None)) is not None:
                raise self.chat.fault(index, f"the model's chat template would write its data as {written[:80]}")

    def check_said(self, index: int) -> None:
        """Refuses what the assistant says in a learned turn and the template leaves out."""
        message = self.messages[index]
        for names in SAID:
            if any(message.get(name) for name in names):
                self._check_used(index, next(name for name in names if message.get(name)), without(message, names))
        calls = message.get("tool_calls", [])
        for place in range(len(calls) if len(calls) > 1 else 0):
            rest = [*calls[:place], *calls[place + 1 :]]
            self._check_used(index, f"tool call {place + 1}", {**message, "tool_calls": rest})

    def is_empty(self, index: int) -> bool:
        """Whether the turn renders as one that says nothing does; it does not where the template refuses such a one."""
        content = self.messages[index].get("content", "")
        if any(part["text"].strip() for part in _parts(content)):
            return False
        try:
            empty = self._empty_turn(index)
        except Exception:  # a template is a program, which may raise anything
            return False
        return "".join(empty.split()) == "".join(self._until(index).split())

    def span(self, index: int) -> tuple[int, int]:
        """Where in the whole the turn's learned part begins and ends."""
        start = self._start(index)
        if not self.whole.startswith(start):
            header = self.text(self.messages[:index])
            if self.whole.startswith(header):
                raise self.chat.fault(
                    index,
                    "the model's chat template does not begin this turn as it prompts for one "
                    f"({describe(start[len(header) :])})",
                )
            raise self.chat.fault(index, _DIFFERS.format(what="the turns before it"))
        turn = self._until(index)
        if self.whole.startswith(turn) and turn.startswith(start):
            return len(start), len(turn)
        return len(start), self._end_of_shortened(index, start, turn)

    def _start(self, index: int) -> str:
        """All before the turn and the prompt for it, which some templates leave out after another answer."""
        start = self.text(self.messages[:index], is_prompt=True)
        if self.messages[index - 1]["role"] != "assistant" or start != self.text(self.messages[:index]):
            return start
        others = [place for place in range(index) if self.messages[place]["role"] != "assistant"]
        asked = self.messages[: others[-1] + 1 if others else 0]
        prompt = self.text(asked, is_prompt=True).removeprefix(self.text(asked)) if asked else ""
        return start + prompt if self.whole.startswith(start + prompt) else start

    def _end_of_shortened(self, index: int, start: str, turn: str) -> int:
        """Where a turn ends that begins, when it is the last, with what the template writes into an empty one too."""
        same = takewhile(lambda pair: pair[0] == pair[1], zip(turn, self._empty_turn(index), strict=False))
        added = sum(1 for _ in same)
        if turn.startswith(start):
            for begin in range(len(start) + 1, added + 1):
                if self.whole.startswith(turn[begin:], len(start)):
                    return len(start) + len(turn) - begin
        raise self.chat.fault(index, _DIFFERS.format(what="this turn"))

    def is_same(self, messages: list[Message]) -> bool:
        """Whether other messages render as these do; what the template cannot do without, it uses."""
        try:
            return self.text(messages) == self.whole
        except Exception:  # a template is a program, which may raise anything
            return False

    def uses_arguments(self) -> bool:
        """Whether those of tool calls are written, if there are any: some templates leave out what is no map."""
        bare = [
            {**message, "tool_calls": [without_arguments(call) for call in message["tool_calls"]]}
            if "tool_calls" in message
            else message
            for message in self.messages
        ]
        return bare == self.messages or not self.is_same(bare)

    def tells_date(self) -> bool:
        later = TODAY + timedelta(days=400)
        return render(self._tokenizer, self.messages, self.chat.variables, today=later) != self.whole

    def uses(self, variable: str) -> bool:
        """Whether the whole, or the prompt for an answer to it, hangs on a variable beside the messages."""
        others = without(self.chat.variables, [variable])
        try:
            return any(
                render(self._tokenizer, self.messages, self.chat.variables, is_prompt)
                != render(self._tokenizer, self.messages, others, is_prompt)
                for is_prompt in (False, True)
            )
        except Exception:  # a template is a program, which may raise anything
            return True

    def _until(self, index: int) -> str:
        return self.whole if index == len(self.messages) - 1 else self.text(self.messages[: index + 1])

    def _empty_turn(self, index: int) -> str:
        return self.text([*self.messages[:index], {"role": "assistant", "content": ""}])

    def _check_used(self, index: int, what: str, message: Message) -> None:
        if not self.is_same([*self.messages[:index], message, *self.messages[index + 1 :]]):
            return
        try:
            is_alone = self.text([*self.messages[:index], message]) != self._until(index)
        except Exception:  # a template is a program, which may raise anything
            is_alone = True
        raise self._lost(index, what, is_alone)

    def _lost(self, index: int, what: str, is_alone: bool) -> InputError:
        if is_alone and index < len(self.messages) - 1:
            return self.chat.fault(index, _DIFFERS.format(what=what))
        return self.chat.fault(
            index,
            f"the model's chat template does not render {what}; leave it out, or take a model whose template does",
        )


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    variables: dict[str, Any],
    is_prompt: bool = False,
    today: datetime = TODAY,
) -> str:
    template = _dated(tokenizer.get_chat_template(tools=variables.get("tools")), today)
    return str(
        tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=is_prompt, **variables
        )
    )


@lru_cache
def _dated(template: str, today: datetime) -> str:
    return _DATE.sub(lambda found: json.dumps(today.strftime(found[2]), ensure_ascii=False), template)


def _named(
    tokenizer: PreTrainedTokenizerBase, chat: Conversation, messages: list[Message], error: Exception
) -> InputError:
    """The template's error with the number of the first message at which it arises."""
    for index in range(len(messages)):
        try:
            render(tokenizer, messages[: index + 1], chat.variables)
        except Exception as found:  # a template is a program, which may raise anything
            if str(found) == str(error):
                return chat.fault(index, refusal(error))
    return InputError(f"{chat.where}: {refusal(error)}", chat.option)


def refusal(error: Exception) -> str:
    return f"the model's chat template refuses this conversation: {error}"


def _mangled(message: Message, encodes_text: bool) -> Iterator[str]:
    """
    What data of the message looks like where a template that does not know its form writes it; `encodes_text`: also
    arguments that are text, which are JSON already.
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


def _marked(messages: list[Message]) -> list[Message]:
    """With a mark at the end of every text and for all arguments that are text, which tells how they are rendered."""
    marked = []
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, str):
            message = {**message, "content": _mark(content, index, 0)}
        elif content is not None:
            parts = [{**part, "text": _mark(part["text"], index, number)} for number, part in enumerate(content)]
            message = {**message, "content": parts}
        if calls := message.get("tool_calls"):
            message = {**message, "tool_calls": [_with_marked_arguments(call) for call in calls]}
        marked.append(message)
    return marked


def _with_marked_arguments(call: Message) -> Message:
    return with_arguments(call, _MARKED_ARGUMENTS) if isinstance(arguments_of(call), str) else call


def _mark(text: str, index: int, number: int) -> str:
    said = text.rstrip()
    return f"{said}zq{index}x{number}qz{text[len(said) :]}" if said else text


def _marks(messages: list[Message]) -> Iterator[tuple[int, tuple[str, str]]]:
    for index, message in enumerate(messages):
        for number, part in enumerate(_parts(message.get("content", ""))):
            if part["text"].strip():
                yield index, (str(index), str(number))


def _parts(content: str | list[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def without(message: Message, names: Iterable[str]) -> Message:
    return {key: value for key, value in message.items() if key not in names}
