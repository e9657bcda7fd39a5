"""Sums of a global adapter's quality over a shard of the held-out examples."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from .batches import IGNORED, collate, forward
from .index import Index
from .messages import TierSums
from .nested_lora import NestedLora, activate


@torch.no_grad()  # not inference_mode: what a model caches under it cannot be trained through
def evaluate_tier(
    nested: NestedLora, r: int, index: Index, shard: range, batch_size: int, on_batch: Callable[[int, int], None]
) -> TierSums:
    """
    Tier r's adapter as it is loaded, over held-out examples. The order of sums is fixed by shard and batch size:
    by length, so that little is padding, then by place.
    """
    if not (0 <= shard.start < shard.stop <= len(index.held_out)):
        raise ValueError(f"shard: expected a part of the {len(index.held_out)} held-out examples, got {shard}")
    activate(nested, r)
    nested.model.eval()
    ordered = sorted(shard, key=lambda example: len(index.tokens(example)))
    is_classifier = nested.task == "sequence-classification"
    loss_sum, n_targets, n_correct = 0.0, 0, 0
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = collate(index, ordered[start : start + batch_size], nested.model.device)
        logits, targets = forward(nested.model, batch)
        losses = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        loss_sum += losses.cpu().double().sum().item()
        n_targets += int((targets != IGNORED).sum())
        if is_classifier:
            n_correct += int((logits.argmax(-1) == targets).sum())
    return TierSums(
        r=r,
        loss_sum=loss_sum if math.isfinite(loss_sum) else None,
        n_tokens=n_targets,
        n_correct=n_correct if is_classifier else None,
        n_examples=len(ordered),
    )
