"""A user's question in a conversation, as the model's chat template prompts for its answer."""

from typing import cast

import torch
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..rows.legal import require_legal
from ..wire.generation_messages import Turn
from ..wire.specs import DataSpec
from .conversation import Message
from .question import Prompt, Question, fill_from
from .rendering import refusal, render

# Stands for an answer, to see what the template writes after it.
_ANSWER = "x"


def ask_in_chat(tokenizer: PreTrainedTokenizerBase, question: Question, data: DataSpec) -> Prompt:
    messages = [_message(turn, data) for turn in question.messages]
    if question.fields:
        if any(turn.role != "system" for turn in question.messages):
            raise InputError("are for a question without a prompt and without earlier turns", "fields")
        messages.append({"role": "user", "content": _filled(question, data)})
    if not messages or messages[-1]["role"] != "user":
        raise InputError("expected a conversation that ends with the user", "messages")
    require_legal(messages, "messages")
    try:
        text = render(tokenizer, messages, {}, is_prompt=True)
        _check_system(tokenizer, messages, text)
        stops = _stops(tokenizer, messages, text)
    except InputError:
        raise
    except Exception as error:  # a template is a program, which may raise anything
        raise InputError(refusal(error), "messages") from error
    tokens = cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
    return Prompt(torch.tensor(tokens), "chat", stops)


def _message(turn: Turn, data: DataSpec) -> Message:
    """Where the data has prompts rather than conversations, a turn of the user fills their template."""
    is_template = turn.role == "user" and data.messages is None
    content = fill_from(data.prompt or "", turn.content, {}, "data.prompt") if is_template else turn.content
    return {"role": turn.role, "content": content}


def _filled(question: Question, data: DataSpec) -> str:
    if data.messages is not None:
        raise InputError(
            "are for a template (data.prompt), and this task has conversations; ask with a prompt", "fields"
        )
    return fill_from(data.prompt or "", "", question.fields, "data.prompt")


def _check_system(tokenizer: PreTrainedTokenizerBase, messages: list[Message], text: str) -> None:
    others = [message for message in messages if message["role"] != "system"]
    if len(others) < len(messages) and render(tokenizer, others, {}, is_prompt=True) == text:
        raise InputError("the model's chat template does not use a system message; leave it out", "messages")


def _stops(tokenizer: PreTrainedTokenizerBase, messages: list[Message], prompt: str) -> tuple[int, ...]:
    """The special token that the template writes after an answer: training taught the model to end with it."""
    whole = render(tokenizer, [*messages, {"role": "assistant", "content": _ANSWER}], {})
    if not whole.startswith(prompt + _ANSWER):
        return ()
    after = cast(list[int], tokenizer(whole[len(prompt + _ANSWER) :], add_special_tokens=False)["input_ids"])
    return tuple(token for token in after[:1] if token in tokenizer.all_special_ids)
