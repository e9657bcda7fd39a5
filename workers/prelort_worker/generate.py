"""ROUGE-L of what a causal-lm answers by itself: from the prompt alone, never from tokens of the true answer."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from .batches import precision
from .index import Index
from .nested_lora import NestedLora, activate


def rouge_l_sum(
    nested: NestedLora,
    r: int,
    index: Index,
    shard: range,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> float:
    """
    Σ over the shard, in its order, of the ROUGE-L F-measure (Lin 2004; the rouge-score package, without stemming) of
    tier r's answers against the examples' own.
    """
    # Here, since it takes nltk half a second, which most workers never need.
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    answers = generate(nested, r, index, shard, tokenizer, batch_size, max_new_tokens, on_batch)
    total = 0.0
    for example, answer in zip(shard, answers, strict=True):
        reference = index.tokens(example)[int(index.targets[example]) :]
        total += float(scorer.score(_text(tokenizer, reference), answer)["rougeL"].fmeasure)
    return total


@torch.no_grad()
def generate(
    nested: NestedLora,
    r: int,
    index: Index,
    shard: range,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    max_new_tokens: int,
    on_batch: Callable[[int, int], None],
) -> list[str]:
    """
    Tier r's answers, in the shard's order: greedy, one beam, until the tokenizer's end-of-text, `max_new_tokens` or
    the model's last position. Batches go by the prompts' lengths, so that little is padding.
    """
    prompts = {example: index.tokens(example)[: int(index.targets[example])] for example in shard}
    ordered = sorted(shard, key=lambda example: len(prompts[example]))
    activate(nested, r)
    nested.model.eval()
    base: Any = nested.model.get_base_model()
    limit = getattr(base.config.get_text_config(), "max_position_embeddings", None)
    # A checkpoint may bring settings of its own, a penalty on repetition for one: they would fill what is left open.
    base.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=index.info.pad_token_id,
    )
    answers: dict[int, str] = {}
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = ordered[start : start + batch_size]
        input_ids, attention_mask = _pad_left([prompts[example] for example in batch], index.info.pad_token_id)
        length = input_ids.shape[1]
        with precision(base):
            tokens = base.generate(
                input_ids=input_ids.to(base.device),
                attention_mask=attention_mask.to(base.device),
                max_new_tokens=max_new_tokens if limit is None else min(max_new_tokens, limit - length),
            )
        answers |= {example: _text(tokenizer, row[length:]) for example, row in zip(batch, tokens, strict=True)}
    return [answers[example] for example in shard]


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
