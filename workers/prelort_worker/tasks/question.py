"""What a user asks a trained model, as the tokens that the model was trained to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from ..rows.legal import require_legal
from ..rows.row import Row
from ..rows.templates import columns_of, fill
from ..wire.generation_messages import PromptForm, Turn

RAW_REMEDY = "or ask with --raw (raw: true) to have your text tokenised as it is"


@dataclass(frozen=True)
class Question:
    """A conversation that ends with the user; it may be empty if `fields` fill the task's template."""

    messages: Sequence[Turn]
    # Values of the template's columns, by name.
    fields: Mapping[str, str]
    # The last message is tokenised as it is.
    is_raw: bool


@dataclass(frozen=True)
class Prompt:
    # [tokens]
    tokens: Tensor
    form: PromptForm
    # Tokens that end an answer, besides the tokenizer's end-of-text.
    stops: tuple[int, ...] = ()


def alone(question: Question) -> str:
    """The text of a question without a conversation before it. Raises InputError if there is one."""
    if question.is_raw and question.fields:
        raise InputError("has no use with raw, which fills no template", "fields")
    if [turn.role for turn in question.messages] not in ([], ["user"]):
        raise InputError(
            "a system message and earlier turns are for chat tasks (data.messages, data.chat), and not with raw; ask "
            "with one message of the user",
            "messages",
        )
    text = question.messages[0].content if question.messages else ""
    require_legal(text, "prompt")
    return text


def fill_from(template: str, text: str, fields: Mapping[str, str], option: str) -> str:
    """
    The template with its columns from `fields`; `text`, unless it is empty, fills the one column that is left. Columns
    inside `[[ ]]` may be missing.
    """
    needed, optional = columns_of(template, option)
    if unknown := [name for name in fields if name not in (*needed, *optional)]:
        there = ", ".join((*needed, *optional)) or "no column"
        raise InputError(f"{unknown[0]!r} is not in {option}, which has {there}", "fields")
    missing = [name for name in needed if name not in fields]
    if len(missing) > 1 or (missing and not text):
        told = f"{option} needs {', '.join(map(repr, missing))}"
        raise InputError(f"{told}: give each with --field NAME=VALUE (fields), {RAW_REMEDY}", "fields")
    if text and not missing:
        raise InputError(f"{option} has no column left for it, since fields fill them all; leave one out", "prompt")
    columns = {**dict.fromkeys(optional, ""), **fields, **dict.fromkeys(missing, text)}
    return fill(template, Row("prompt", columns), option)
