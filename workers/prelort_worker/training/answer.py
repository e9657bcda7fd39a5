"""Answers a user's question at one rank after the other, and tells each answer while it grows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ..errors import InputError
from ..seeds import derive
from ..tasks.question import Prompt, Question
from ..tasks.sequence_classification import SequenceClassification
from ..tasks.text import GenerativeTask, TextTask
from ..wire.generation_messages import Answered, Generate, Generated, Text, Turn
from .batches import precision
from .buffers import unchanged_buffers
from .generate import continuation_of, decode, set_generation
from .nested_lora import NestedLora, activate, check_largest, check_scale, write
from .text_stream import TextStream

# Sends a piece of an answer.
Say = Callable[[Text], None]


@dataclass(frozen=True)
class Telling:
    """Where answers go while they grow."""

    task: Generate
    # The activity, the tokens so far and the most tokens; raises when the task has been cancelled.
    report: Callable[[str, int, int], None]
    say: Say | None = None

    def progress(self, r: int, done: int, most: int) -> None:
        self.report(f"generate rank {r}", done, most)

    def text(self, r: int, piece: str) -> None:
        if piece and self.say:
            self.say(Text(self.task.task_id, self.task.attempt, r, piece))


@torch.no_grad()
def answer(nested: NestedLora, task: Generate, rows: Tensor, dense: Tensor, tell: Telling) -> Generated:
    """Each rank's answer with its prefix of the rows; a rank that is no tier is computed by the next larger tier."""
    ranks = [asked.r for asked in task.asked]
    check_scale(nested, task.scale)
    if not ranks or max(ranks) > nested.tiers[-1]:
        raise ValueError(f"asked: expected ranks from 1 to {nested.tiers[-1]}, got {ranks}")
    check_largest(rows, ranks)
    prompts = [_prompt(nested, task, asked.messages) for asked in task.asked]
    nested.model.eval()
    with unchanged_buffers(nested.model):
        answers = [
            _answer(nested, task, r, prompt, rows, dense, tell) for r, prompt in zip(ranks, prompts, strict=True)
        ]
    return Generated(task.task_id, task.attempt, prompts[0].form, answers)


def _answer(
    nested: NestedLora, task: Generate, r: int, prompt: Prompt, rows: Tensor, dense: Tensor, tell: Telling
) -> Answered:
    started = time.monotonic()
    _load_prefix(nested, r, rows, dense)
    tell.progress(r, 0, task.max_new_tokens)
    if isinstance(nested.task, SequenceClassification):
        found = _classify(nested, nested.task, r, prompt)
    else:
        found = _write_answer(nested, task, r, prompt, tell)
    return replace(found, seconds=time.monotonic() - started)


def _prompt(nested: NestedLora, task: Generate, messages: Sequence[Turn]) -> Prompt:
    if not isinstance(nested.task, GenerativeTask | SequenceClassification):
        raise InputError(
            f"{nested.task.model.task} answers no text: only causal-lm, seq2seq-lm, sequence-classification and tasks "
            "derived from them can be asked",
            "model.task",
        )
    prompt = nested.task.ask(Question(messages, task.fields, task.raw), task.data)
    limit = _limit(nested)
    if isinstance(nested.task, GenerativeTask) and limit is not None and len(prompt.tokens) >= limit:
        told = f"has {len(prompt.tokens)} tokens, and the model has {limit} positions for prompt and answer together"
        raise InputError(f"{told}; shorten it, or begin the conversation anew", "prompt")
    return prompt


def _limit(nested: NestedLora) -> int | None:
    return continuation_of(nested.model.get_base_model())[1]


def _load_prefix(nested: NestedLora, r: int, rows: Tensor, dense: Tensor) -> None:
    """Into the smallest tier that holds it; components above it are zero, and so change nothing."""
    tier = next(tier for tier in nested.tiers if tier >= r)
    padded = torch.zeros(tier, rows.shape[1])
    padded[:r] = rows[:r]
    write(nested, tier, padded, dense)
    activate(nested, tier)


def _write_answer(nested: NestedLora, task: Generate, r: int, prompt: Prompt, tell: Telling) -> Answered:
    generative: Any = nested.task
    base: Any = nested.model.get_base_model()
    limit = _limit(nested)
    most = task.max_new_tokens if limit is None else min(task.max_new_tokens, limit - len(prompt.tokens))
    ends = set_generation(base, generative, prompt.stops, **_sampling(task))
    listener = _Listener(generative.tokenizer, r, most, tell)
    input_ids = prompt.tokens.long().unsqueeze(0).to(base.device)
    # The same for every rank, so that none depends on which others are asked.
    torch.manual_seed(derive(task.seed, "generate"))
    with precision(nested):
        base.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=most,
            streamer=listener,
        )
    tokens, text = listener.finish()
    return Answered(r, text, len(tokens), "stop" if tokens and tokens[-1] in ends else "length", 0.0, None)


def _sampling(task: Generate) -> dict[str, Any]:
    if task.temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": task.temperature, "top_p": task.top_p, "top_k": 0}


class _Listener(BaseStreamer):
    """Is given the prompt, or what a decoder starts from, then one token after the other."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, r: int, most: int, tell: Telling) -> None:
        is_cleaned = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
        self._stream = TextStream(partial(decode, tokenizer), is_cleaned)
        self._r, self._most, self._tell = r, most, tell
        self._has_begun = False

    def put(self, value: Tensor) -> None:
        if not self._has_begun:
            self._has_begun = True
            return
        self._say(self._stream.add(value.flatten().tolist()))
        self._tell.progress(self._r, len(self._stream.tokens), self._most)

    def end(self) -> None:
        """Called by transformers; `finish` does what is left to do."""

    def finish(self) -> tuple[list[int], str]:
        """All tokens, and the whole text."""
        piece, text = self._stream.end()
        self._say(piece)
        return self._stream.tokens, text

    def _say(self, piece: str) -> None:
        self._tell.text(self._r, piece)


def _classify(nested: NestedLora, task: SequenceClassification, r: int, prompt: Prompt) -> Answered:
    batch = TextTask.collate(task, [{"input_ids": prompt.tokens}])
    with precision(nested):
        outputs = task.forward(nested.model, {name: value.to(nested.device) for name, value in batch.items()})
    reply = task.reply(outputs.logits[0].float())
    return Answered(r, reply.text, 0, "stop", 0.0, reply.labels)
