"""Questions to a trained model, and its answers."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .fields import TensorDescriptor
from .specs import DataSpec
from .validation import Count, Positive

# How a prompt became tokens: by the model's chat template, by the config's template, as the beginning of a text that
# the model continues, or as it is.
PromptForm: TypeAlias = Literal["chat", "template", "text", "raw"]


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Asked:
    """What one rank is asked: a conversation that ends with the user, or nothing if `fields` fill the template."""

    r: Positive
    messages: list[Turn]


@dataclass(frozen=True)
class Generate:
    """Asks the model at some ranks, one after the other; texts are sent while they grow."""

    task_id: str
    attempt: Positive
    # The adapter's `rows` have the largest of their ranks.
    asked: list[Asked]
    scale: float
    # Every rank samples from it alone.
    seed: str
    data: DataSpec
    # Values of the template's columns, by name.
    fields: dict[str, str]
    # Tokenise the prompt as it is.
    raw: bool
    max_new_tokens: Positive
    # 0: the likeliest token at each step.
    temperature: float
    top_p: float
    tensors: list[TensorDescriptor]
    traceparent: str | None = None


@dataclass(frozen=True)
class Text:
    """The next piece of an answer that is still growing."""

    task_id: str
    attempt: Positive
    r: Positive
    text: str


@dataclass(frozen=True)
class Likelihood:
    label: str
    probability: float


@dataclass(frozen=True)
class Answered:
    r: Positive
    # The whole answer; a classifier's is its likeliest label.
    text: str
    # Generated, with the end-of-text.
    tokens: Count
    # Why it ended: by the model's own end-of-text, or by max_new_tokens or the model's last position.
    finish: Literal["stop", "length"]
    seconds: float
    # A classifier's likeliest labels, the likeliest first.
    labels: list[Likelihood] | None


@dataclass(frozen=True)
class Generated:
    task_id: str
    attempt: Positive
    form: PromptForm
    answers: list[Answered]
