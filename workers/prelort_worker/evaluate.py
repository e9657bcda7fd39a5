"""Sums of an adapter's quality over a shard of examples."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from .batches import IGNORED, collate, forward
from .index import Index
from .messages import Evaluate, LabelCounts, TierSums
from .nested_lora import NestedLora, activate


def shard_of(index: Index, task: Evaluate) -> range:
    """Where the examples lie that the task asks for."""
    if (task.client_id is None) != (task.examples == "global"):
        wanted = "no client_id" if task.examples == "global" else "a client_id"
        raise ValueError(f"examples {task.examples!r}: expected {wanted}, got {task.client_id!r}")
    if task.client_id is None:
        whose, pool = "held out from all", index.held_out
    elif task.examples == "client":
        whose, pool = f"held out of {task.client_id}", index.held_out_of(task.client_id)
    else:
        whose, pool = f"that {task.client_id} trains on", index.of_client(task.client_id)
    shard = range(task.start, task.start + task.count)
    if shard.stop > len(pool):
        raise ValueError(f"shard: expected a part of the {len(pool)} examples {whose}, got {shard}")
    return pool[shard.start : shard.stop]


@torch.no_grad()  # not inference_mode: what a model caches under it cannot be trained through
def evaluate_tier(
    nested: NestedLora, r: int, index: Index, shard: range, batch_size: int, on_batch: Callable[[int, int], None]
) -> TierSums:
    """
    Tier r's adapter as it is loaded, over a shard; nothing is generated. The order of sums is fixed by shard and batch
    size: by length, so that little is padding, then by place.
    """
    activate(nested, r)
    nested.model.eval()
    ordered = sorted(shard, key=lambda example: len(index.tokens(example)))
    is_classifier = nested.task == "sequence-classification"
    loss_sum, n_targets = 0.0, 0
    answered: list[tuple[torch.Tensor, torch.Tensor]] = []
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = collate(index, ordered[start : start + batch_size], nested.model.device)
        logits, targets = forward(nested.model, batch)
        losses = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        loss_sum += losses.cpu().double().sum().item()
        n_targets += int((targets != IGNORED).sum())
        if is_classifier:
            answered.append((logits.argmax(-1).cpu(), targets.cpu()))
    return TierSums(
        r=r,
        loss_sum=loss_sum if math.isfinite(loss_sum) else None,
        n_tokens=n_targets,
        n_examples=len(ordered),
        labels=_count_labels(answered, len(index.info.labels)) if is_classifier else None,
        rouge_l_sum=None,
    )


def _count_labels(answered: list[tuple[torch.Tensor, torch.Tensor]], n_labels: int) -> LabelCounts:
    predicted, actual = (torch.cat(part) for part in zip(*answered, strict=True))
    hits = actual[predicted == actual]
    counts = [torch.bincount(labels, minlength=n_labels).tolist() for labels in (hits, predicted, actual)]
    return LabelCounts(*counts)
