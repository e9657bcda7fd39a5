"""Generates answers from the prompt alone, never from tokens of the reference, and scores them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..errors import InputError
from ..prepared_dataset import PreparedDataset
from ..tasks.text import GenerativeTask
from ..wire.messages import Sample
from .batches import precision
from .nested_lora import NestedLora, activate


@dataclass(frozen=True)
class Scores:
    """In the shard's order."""

    # ROUGE-L F-measures (Lin 2004; the rouge-score package, without stemming).
    rouge_l: Tensor
    # The task's own metrics, by name.
    own: dict[str, Tensor]
    answers: list[str]


def score_answers(
    nested: NestedLora,
    r: int,
    dataset: PreparedDataset,
    shard: range,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> Scores:
    """Scores tier r's generated answers on the shard against the examples' references."""
    # Imported here, since it loads nltk, which takes half a second and most workers never need.
    from rouge_score.rouge_scorer import RougeScorer

    task = _generative(nested)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    answers = generate(nested, r, dataset, shard, batch_size, max_new_tokens, on_batch)
    rouge, own = list[float](), list[dict[str, float]]()
    for index, answer in zip(shard, answers, strict=True):
        reference = answer_text(task.tokenizer, task.reference(dataset.example(index)).tolist())
        rouge.append(float(scorer.score(reference, answer)["rougeL"].fmeasure))
        own.append({name: float(value) for name, value in task.score(answer, reference).items()})
    if any(each.keys() != own[0].keys() for each in own):
        raise InputError(f"{type(task).__name__}.score: expected the same metrics of every answer", "model.task")
    by_name = {name: _column([each[name] for each in own]) for name in own[0]}
    return Scores(_column(rouge), by_name, answers)


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def samples_of(
    nested: NestedLora, dataset: PreparedDataset, examples: range, answers: Sequence[Sequence[str]]
) -> list[Sample]:
    """Examples in words, with the answers of each rank, in the order of the examples."""
    task, samples = _generative(nested), []
    for number, index in enumerate(examples):
        prompt, reference = (each(dataset.example(index)).tolist() for each in (task.prompt, task.reference))
        texts = decode(task.tokenizer, prompt).strip(), answer_text(task.tokenizer, reference)
        samples.append(Sample(*texts, [of_rank[number] for of_rank in answers]))
    return samples


@torch.no_grad()
def generate(
    nested: NestedLora,
    r: int,
    dataset: PreparedDataset,
    shard: range,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> list[str]:
    """
    Tier r's answers, in the shard's order: greedy, one beam, until the tokenizer's end-of-text, `max_new_tokens` or
    the model's last position. Sorts by prompt length, which keeps padding low.
    """
    task = _generative(nested)
    prompts = {index: task.prompt(dataset.example(index)) for index in shard}
    ordered = sorted(shard, key=lambda index: len(prompts[index]))
    activate(nested, r)
    nested.model.eval()
    base: Any = nested.model.get_base_model()
    is_apart, limit = continuation_of(base)
    set_generation(base, task, do_sample=False)
    answers: dict[int, str] = {}
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = ordered[start : start + batch_size]
        input_ids, attention_mask = _pad_left([prompts[index] for index in batch], dataset.info.pad_token_id)
        length = 0 if is_apart else input_ids.shape[1]
        with precision(nested):
            tokens = base.generate(
                input_ids=input_ids.to(base.device),
                attention_mask=attention_mask.to(base.device),
                max_new_tokens=max_new_tokens if limit is None else min(max_new_tokens, limit - length),
            )
        texts = [answer_text(task.tokenizer, row[length:].tolist()) for row in tokens]
        answers |= dict(zip(batch, texts, strict=True))
    return [answers[index] for index in shard]


def continuation_of(base: Any) -> tuple[bool, int | None]:
    """
    A decoder-only model continues its prompt; with an encoder, the decoder starts from scratch: apart. And the most
    positions of prompt and answer together, if they are limited.
    """
    is_apart = bool(base.config.is_encoder_decoder)
    return is_apart, None if is_apart else getattr(base.config.get_text_config(), "max_position_embeddings", None)


def set_generation(base: Any, task: GenerativeTask, stops: Sequence[int] = (), **sampling: Any) -> list[int]:
    """
    Replaces the checkpoint's own settings, such as a repetition penalty, which would apply otherwise. Answers end with
    the tokenizer's end-of-text or one of `stops`; returns these.
    """
    ends = list(dict.fromkeys([int(task.tokenizer.eos_token_id), *stops]))  # pyright: ignore[reportArgumentType] - checked when loaded
    base.generation_config = GenerationConfig(
        num_beams=1,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=task.pad_token_id,
        decoder_start_token_id=getattr(base.config, "decoder_start_token_id", None),
        **sampling,
    )
    return ends


def _generative(nested: NestedLora) -> GenerativeTask:
    if not isinstance(nested.task, GenerativeTask):
        raise ValueError(f"max_new_tokens: expected 0 for {nested.task.model.task}, which generates nothing")
    return nested.task


def _pad_left(prompts: list[torch.Tensor], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (len(prompts), max(map(len, prompts)))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        input_ids[row, shape[1] - len(prompt) :] = prompt
        attention_mask[row, shape[1] - len(prompt) :] = 1
    return input_ids, attention_mask


def answer_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Stripped, since an answer begins with the space that joins it to its prompt."""
    return decode(tokenizer, tokens).strip()


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True))
