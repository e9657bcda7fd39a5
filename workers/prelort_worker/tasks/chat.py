"""Conversations as a model's own chat template writes them, with the loss on what the assistant says alone."""

from typing import Any, TypeAlias

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..messages import DataSpec
from ..row import Row
from ..templates import column_value, fill

Chat: TypeAlias = list[dict[str, str]]


def chat_of(row: Row, data: DataSpec) -> Chat:
    """The row's conversation: a column of messages, or its prompt and answer as one."""
    if data.messages is None:
        prompt, answer = fill(data.prompt or "", row, "data.prompt"), fill(data.answer or "", row, "data.answer")
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    chat: Any = column_value(row, data.messages, "data.messages")
    is_chat = isinstance(chat, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in chat
    )
    if not is_chat:
        raise InputError(
            f"{row.where}: column {data.messages!r} is no conversation; expected a list of "
            '{"role": "user", "content": "…"}',
            "data.messages",
        )
    if not any(message["role"] == "assistant" for message in chat):
        raise InputError(f"{row.where}: the assistant says nothing, so that there is nothing to learn", "data.messages")
    return [{"role": message["role"], "content": message["content"]} for message in chat]


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, where: str, max_length: int
) -> tuple[list[int], list[bool], bool]:
    """
    Tokens, which of them the assistant said, and whether any were cut. Learned is what stands between the template's
    generation prompt and the end of the turn. Of what is too long the end is cut, or, where nothing to learn would be
    left, the beginning.
    """
    if chat[0]["role"] == "assistant":  # some templates cannot write an empty conversation
        raise InputError(f"{where}: begins with the assistant; expected the user, or the system", "data.messages")
    try:
        whole = _render(tokenizer, chat, False)
        spans = []
        for place, message in enumerate(chat):
            if message["role"] == "assistant":
                before, after = _render(tokenizer, chat[:place], True), _render(tokenizer, chat[: place + 1], False)
                if not (after.startswith(before) and whole.startswith(after)):
                    raise InputError(
                        f"{where}: the model's chat template writes a turn differently when others follow, so that "
                        "the assistant's part cannot be told; split the conversation after each of its answers",
                        "data.messages",
                    )
                spans.append((len(before), len(after)))
    except TemplateError as error:
        raise InputError(f"{where}: the model's chat template refuses this conversation: {error}") from error
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    learned = [any(start <= at < stop for start, stop in spans) for at, _ in offsets]
    if len(tokens) <= max_length:
        return tokens, learned, False
    cut = slice(0, max_length) if any(learned[1:max_length]) else slice(-max_length, None)
    return tokens[cut], learned[cut], True


def _render(tokenizer: PreTrainedTokenizerBase, chat: Chat, is_prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=is_prompt))
