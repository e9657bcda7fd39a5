"""
Encodes conversations with the model's own chat template; the loss is on the assistant's turns only. Content that the
template does not render is refused, or, if it is only context, reported in a remark.
"""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from .chat_forms import arguments_of, without, without_arguments
from .conversation import Conversation, Message
from .rendering import TODAY, Rendering, refusal

# Developer is another name for system; function, and ipython in Llama's templates, for tool.
_ROLES = ("system", "user", "assistant", "tool", "developer", "function", "ipython")


class ChatEncoder:
    """Encodes conversations, and collects remarks on what the template leaves out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._used: set[str] = set()
        # For each key that no rendering has used so far, its first location and the count.
        self._unused: dict[str, tuple[str, int]] = {}
        # For each role that is in no known template, its first location and the count.
        self._strange: dict[str, tuple[str, int]] = {}
        self._empty: list[str] = []
        self._tells_date: bool | None = None

    def encode(self, chat: Conversation, max_length: int) -> tuple[list[int], list[bool], bool]:
        """
        Tokens, which of them are trained on, and whether any were cut. Trained on are those between the template's
        generation prompt and the end of a turn. A conversation that is too long loses its end, or its beginning if no
        trained token would remain.
        """
        try:
            rendering = Rendering.of(self._tokenizer, chat)
            spans = self._spans(rendering)
            self._note_unused(rendering)
            self._note_roles(chat)
        except InputError:
            raise
        except Exception as error:  # a template is a program, which may raise anything
            raise InputError(f"{chat.where}: {refusal(error)}", chat.option) from error
        if not spans:
            raise InputError(
                f"{chat.where}: all turns of the assistant are empty, so there is nothing to train on", chat.option
            )
        return _tokenise(self._tokenizer, rendering.whole, spans, max_length)

    def remarks(self) -> list[str]:
        remarks = [
            f"the model's chat template does not use {label}: {first}" + (f" and {count - 1} more" if count > 1 else "")
            for label, (first, count) in self._unused.items()
        ]
        remarks += [
            f"role {role} is unknown to chat templates (system, user, assistant, tool): {first}"
            + (f" and {count - 1} more" if count > 1 else "")
            for role, (first, count) in self._strange.items()
        ]
        if self._tells_date:
            remarks.append(f"the model's chat template writes the date; it always gets {TODAY:%d %b %Y}")
        if self._empty:
            more = f"; and {len(self._empty) - 3} more" if len(self._empty) > 3 else ""
            told = "; ".join(self._empty[:3]) + more
            remarks.append(f"assistant turns that render as empty are not trained on: {told}")
        return remarks

    def _spans(self, rendering: Rendering) -> list[tuple[int, int]]:
        spans = []
        for index, is_learned in enumerate(rendering.chat.learned):
            if is_learned:
                rendering.check_said(index)
                if rendering.is_empty(index):
                    self._empty.append(f"{rendering.chat.where}, message {index + 1}")
                else:
                    spans.append(rendering.span(index))
        return spans

    def _note_unused(self, rendering: Rendering) -> None:
        chat = rendering.chat
        if self._tells_date is None:
            self._tells_date = rendering.tells_date()
        for key, locations, rest in _without_each_key(chat.where, rendering.messages):
            if key not in self._used:
                self._note(key, locations, not rendering.is_same(rest))
        for name in chat.variables:
            if name not in self._used:
                self._note(name, [chat.where], rendering.uses(name))

    def _note_roles(self, chat: Conversation) -> None:
        for index, message in enumerate(chat.messages, start=1):
            if (role := message["role"]) not in _ROLES:
                first, count = self._strange.get(role, (f"{chat.where}, message {index}", 0))
                self._strange[role] = first, count + 1

    def _note(self, label: str, locations: list[str], is_used: bool) -> None:
        if is_used:
            self._used.add(label)
            self._unused.pop(label, None)
        else:
            first, count = self._unused.get(label, (locations[0], 0))
            self._unused[label] = first, count + len(locations)


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, whole: str, spans: list[tuple[int, int]], max_length: int
) -> tuple[list[int], list[bool], bool]:
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    learned = [any(start <= at < stop for start, stop in spans) for at, _ in offsets]
    if len(tokens) <= max_length:
        return tokens, learned, False
    cut = slice(0, max_length) if any(learned[1:max_length]) else slice(-max_length, None)
    return tokens[cut], learned[cut], True


def _without_each_key(where: str, messages: list[Message]) -> Iterator[tuple[str, list[str], list[Message]]]:
    """For each key besides role and content: its name, its locations, and the messages without it."""
    pairs = {(key, message["role"]): None for message in messages for key in message if key not in ("role", "content")}
    for key, role in pairs:
        holders = [index for index, message in enumerate(messages) if message["role"] == role and key in message]
        locations = [f"{where}, message {index + 1}" for index in holders]
        rest = [without(message, [key]) if index in holders else message for index, message in enumerate(messages)]
        yield f"{key} of {role} messages", locations, rest
        if key == "tool_calls" and any(arguments_of(call) for index in holders for call in messages[index][key]):
            bare = [
                {**message, key: [without_arguments(call) for call in message[key]]} if index in holders else message
                for index, message in enumerate(messages)
            ]
            yield f"the arguments in {key} of {role} messages", locations, bare
