"""A conversation rendered by a chat template: in which form, where each turn is, and what the template leaves out."""

import json
import re
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..rows.legal import require_legal
from .chat_forms import equivalent_forms, without, without_arguments
from .conversation import SAID, Conversation, Message
from .rendering_marks import encodes_arguments, mangled_data, mark_messages, marks_in, marks_of, text_parts
from .text import describe

# The date given to templates that ask for it, so that the same data gives the same examples on any day. Llama's
# templates use this date themselves when they cannot ask.
TODAY = datetime(2024, 7, 26)
_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_DIFFERS = (
    "the model's chat template writes {what} differently when others follow; split the conversation after this turn, "
    'with "weight": 0 on those of the assistant before it'
)


class Rendering:
    """A conversation in a form that the template accepts, and the rendered text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: Conversation, messages: list[Message]) -> None:
        self._tokenizer = tokenizer
        self.chat = chat
        self.messages = messages
        self.whole = self.text(messages)
        self._marked = self.text(mark_messages(messages))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, chat: Conversation) -> "Rendering":
        """
        The first form that the template renders with all arguments of tool calls, otherwise the first that it renders.
        Raises the error of the last form if there is none.
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
        Refuses a rendering that lacks the content of a message, writes data as Python or as JSON inside JSON, or
        contains illegal characters, such as a lone surrogate that was escaped in a call's arguments.
        """
        require_legal(self.whole, f"{self.chat.where}: as the model's chat template renders it, the conversation")
        found = marks_in(self._marked)
        for index, mark in marks_of(self.messages):
            if mark not in found:
                alone = marks_in(self.text(mark_messages(self.messages)[: index + 1]))
                raise self._lost(index, f"its content (role {self.messages[index]['role']!r})", mark in alone)
        encodes_text = encodes_arguments(self._marked)
        for index, message in enumerate(self.messages):
            mangled = (each for each in mangled_data(message, encodes_text) if each in self.whole)
            if (written := next(mangled, None)) is not None:
                raise self.chat.fault(index, f"the model's chat template would write its data as {written[:80]}")

    def check_said(self, index: int) -> None:
        """Refuses a trained turn if the template leaves out a part of it."""
        message = self.messages[index]
        for names in SAID:
            if any(message.get(name) for name in names):
                self._check_used(index, next(name for name in names if message.get(name)), without(message, names))
        calls = message.get("tool_calls", [])
        for number in range(len(calls) if len(calls) > 1 else 0):
            rest = [*calls[:number], *calls[number + 1 :]]
            self._check_used(index, f"tool call {number + 1}", {**message, "tool_calls": rest})

    def is_empty(self, index: int) -> bool:
        """Whether the turn renders like an empty one; False if the template refuses an empty turn."""
        content = self.messages[index].get("content", "")
        if any(part["text"].strip() for part in text_parts(content)):
            return False
        try:
            empty = self._empty_turn(index)
        except Exception:  # a template is a program, which may raise anything
            return False
        return "".join(empty.split()) == "".join(self._until(index).split())

    def span(self, index: int) -> tuple[int, int]:
        """The start and end of the turn's trained part in the whole text."""
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
        """Everything before the turn, and its prompt, which some templates leave out after another answer."""
        start = self.text(self.messages[:index], is_prompt=True)
        if self.messages[index - 1]["role"] != "assistant" or start != self.text(self.messages[:index]):
            return start
        others = [i for i in range(index) if self.messages[i]["role"] != "assistant"]
        asked = self.messages[: others[-1] + 1 if others else 0]
        prompt = self.text(asked, is_prompt=True).removeprefix(self.text(asked)) if asked else ""
        return start + prompt if self.whole.startswith(start + prompt) else start

    def _end_of_shortened(self, index: int, start: str, turn: str) -> int:
        """The end of a turn to which the template adds a prefix when it is the last, as it does to an empty turn."""
        same = takewhile(lambda pair: pair[0] == pair[1], zip(turn, self._empty_turn(index), strict=False))
        added = sum(1 for _ in same)
        if turn.startswith(start):
            for begin in range(len(start) + 1, added + 1):
                if self.whole.startswith(turn[begin:], len(start)):
                    return len(start) + len(turn) - begin
        raise self.chat.fault(index, _DIFFERS.format(what="this turn"))

    def is_same(self, messages: list[Message]) -> bool:
        """Whether other messages render the same; False if the template fails on them."""
        try:
            return self.text(messages) == self.whole
        except Exception:  # a template is a program, which may raise anything
            return False

    def uses_arguments(self) -> bool:
        """Whether arguments of tool calls are rendered, if any: some templates skip those that are not a map."""
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
        """Whether the text, or the prompt for a next answer, depends on a variable besides the messages."""
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
            f"the model's chat template does not render {what}; leave it out, or use a model whose template does",
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
    """The template's error, with the number of the first message that causes it."""
    for index in range(len(messages)):
        try:
            render(tokenizer, messages[: index + 1], chat.variables)
        except Exception as found:  # a template is a program, which may raise anything
            if str(found) == str(error):
                return chat.fault(index, refusal(error))
    return InputError(f"{chat.where}: {refusal(error)}", chat.option)


def refusal(error: Exception) -> str:
    return f"the model's chat template refuses this conversation: {error}"
