"""What a model writes by itself: from the prompt alone, never from tokens of the true answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..prepared_dataset import Index
from ..tasks.text import GenerativeTask
from .batches import precision
from .nested_lora import NestedLora, activate


@dataclass(frozen=True)
class Scores:
    # Σ of the ROUGE-L F-measure (Lin 2004; the rouge-score package, without stemming).
    rouge_l: float
    # Σ of the task's own, by name.
    own: dict[str, float]


def score_answers(
    nested: NestedLora,
    r: int,
    index: Index,
    shard: range,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> Scores:
    """Tier r's answers over the shard, in its order, against the examples' own."""
    # Here, since it takes nltk half a second, which most workers never need.
    from rouge_score.rouge_scorer import RougeScorer

    task = _generative(nested)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    answers = generate(nested, r, index, shard, batch_size, max_new_tokens, on_batch)
    total, own = 0.0, dict[str, float]()
    for place, answer in zip(shard, answers, strict=True):
        reference = _text(task.tokenizer, task.reference(index.example(place)))
        total += float(scorer.score(reference, answer)["rougeL"].fmeasure)
        for name, value in task.score(answer, reference).items():
            own[name] = own.get(name, 0.0) + float(value)
    return Scores(total, own)


@torch.no_grad()
def generate(
    nested: NestedLora,
    r: int,
    index: Index,
    shard: range,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> list[str]:
    """
    Tier r's answers, in the shard's order: greedy, one beam, until the tokenizer's end-of-text, `max_new_tokens` or
    the model's last position. Batches go by the prompts' lengths, so that little is padding.
    """
    task = _generative(nested)
    prompts = {place: task.prompt(index.example(place)) for place in shard}
    ordered = sorted(shard, key=lambda place: len(prompts[place]))
    activate(nested, r)
    nested.model.eval()
    base: Any = nested.model.get_base_model()
    # A decoder goes on where its prompt ends; a decoder beside an encoder begins anew.
    is_apart = bool(base.config.is_encoder_decoder)
    limit = None if is_apart else getattr(base.config.get_text_config(), "max_position_embeddings", None)
    # A checkpoint may bring settings of its own, a penalty on repetition for one: they would fill what is left open.
    base.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=task.tokenizer.eos_token_id,
        pad_token_id=index.info.pad_token_id,
        decoder_start_token_id=getattr(base.config, "decoder_start_token_id", None),
    )
    answers: dict[int, str] = {}
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = ordered[start : start + batch_size]
        input_ids, attention_mask = _pad_left([prompts[place] for place in batch], index.info.pad_token_id)
        length = 0 if is_apart else input_ids.shape[1]
        with precision(nested):
            tokens = base.generate(
                input_ids=input_ids.to(base.device),
                attention_mask=attention_mask.to(base.device),
                max_new_tokens=max_new_tokens if limit is None else min(max_new_tokens, limit - length),
            )
        answers |= {place: _text(task.tokenizer, row[length:]) for place, row in zip(batch, tokens, strict=True)}
    return [answers[place] for place in shard]


def _generative(nested: NestedLora) -> GenerativeTask:
    if not isinstance(nested.task, GenerativeTask):
        raise ValueError(f"max_new_tokens: expected 0 for {nested.task.model.task}, which writes nothing")
    return nested.task


def _pad_left(prompts: list[torch.Tensor], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (len(prompts), max(map(len, prompts)))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        input_ids[row, shape[1] - len(prompt) :] = prompt
        attention_mask[row, shape[1] - len(prompt) :] = 1
    return input_ids, attention_mask


def _text(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor) -> str:
    """Stripped: an answer begins with the space that joins it to its prompt."""
    return str(tokenizer.decode(tokens.tolist(), skip_special_tokens=True)).strip()
