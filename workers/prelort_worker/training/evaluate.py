"""Sums of an adapter's quality over a shard of examples."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from ..prepared_dataset import Index
from ..wire.messages import Evaluate, LabelCounts, TierSums
from .batches import collate, forward
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
    ordered = sorted(shard, key=index.length)
    loss_sum, n_targets = 0.0, 0
    answered: list[tuple[Tensor, Tensor]] = []
    sums: dict[str, float] = {}
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        batch = collate(nested.task, index, ordered[start : start + batch_size], nested.device)
        outputs, losses = forward(nested, batch)
        loss_sum += losses.cpu().double().sum().item()
        n_targets += batch.n_targets
        if (labels := nested.task.answers(outputs, batch.tensors)) is not None:
            answered.append((labels[0].cpu(), labels[1].cpu()))
        for name, values in nested.task.metrics(outputs, batch.tensors).items():
            sums[name] = sums.get(name, 0.0) + _sum_of_examples(name, values, len(batch))
    return TierSums(
        r=r,
        loss_sum=finite(loss_sum),
        n_tokens=n_targets,
        n_examples=len(ordered),
        labels=_count_labels(answered, len(index.info.labels)) if answered else None,
        rouge_l_sum=None,
        metrics={name: finite(value) for name, value in sums.items()},
    )


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sum_of_examples(name: str, values: Tensor, n_examples: int) -> float:
    if values.shape != (n_examples,):
        raise InputError(
            f"metric {name}: expected a number for each of {n_examples} examples, got shape {list(values.shape)}",
            "model.task",
        )
    return values.cpu().double().sum().item()


def _count_labels(answered: list[tuple[Tensor, Tensor]], n_labels: int) -> LabelCounts:
    predicted, actual = (torch.cat(part) for part in zip(*answered, strict=True))
    hits = actual[predicted == actual]
    counts = [torch.bincount(labels, minlength=n_labels).tolist() for labels in (hits, predicted, actual)]
    return LabelCounts(*counts)
