"""Evaluates an adapter on a shard of examples."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..prepared_dataset import PreparedDataset
from ..tasks.task import Task
from ..tasks.text import GenerativeTask
from ..wire.messages import Evaluate, ExampleColumn
from .batches import Batch, collate, count_each, forward
from .example_values import ExampleValues, Kept
from .nested_lora import NestedLora, activate


def shard_of(dataset: PreparedDataset, task: Evaluate) -> range:
    """The range of examples that the task asks for."""
    if (task.client_id is None) != (task.examples == "global"):
        wanted = "no client_id" if task.examples == "global" else "a client_id"
        raise ValueError(f"examples {task.examples!r}: expected {wanted}, got {task.client_id!r}")
    if task.client_id is None:
        whose, pool = "held out from all", dataset.held_out
    elif task.examples == "client":
        whose, pool = f"held out of {task.client_id}", dataset.held_out_of(task.client_id)
    else:
        whose, pool = f"that {task.client_id} trains on", dataset.of_client(task.client_id)
    shard = range(task.start, task.start + task.count)
    if shard.stop > len(pool):
        raise ValueError(f"shard: expected a part of the {len(pool)} examples {whose}, got {shard}")
    return pool[shard.start : shard.stop]


@torch.no_grad()  # not inference_mode: tensors a model caches under it cannot be used in training
def evaluate_tier(
    nested: NestedLora,
    r: int,
    dataset: PreparedDataset,
    shard: range,
    batch_size: int,
    on_batch: Callable[[int, int], None],
) -> ExampleValues:
    """
    The values of each example of a shard, with tier r's adapter as loaded; generates nothing. Shard and batch size
    determine the batches: by length, which keeps padding low, then by index.
    """
    activate(nested, r)
    nested.model.eval()
    ordered = sorted(range(len(shard)), key=lambda place: dataset.length(shard[place]))
    kept = Kept(len(shard))
    for start in range(0, len(ordered), batch_size):
        on_batch(start, len(ordered))
        places = ordered[start : start + batch_size]
        batch = collate(nested.task, dataset, [shard[place] for place in places], nested.device)
        outputs, losses = forward(nested, batch)
        kept.column("loss", places, _summed(losses, places))
        kept.column("targets", places, _targets(nested, batch))
        for name, values in _columns(nested.task, outputs, batch):
            kept.column(name, places, values)
        for name, values in nested.task.metrics(outputs, batch.tensors).items():
            kept.metric(name, places, values)
    return kept.values()


def spelled_bytes(task: Task, dataset: PreparedDataset, shard: range) -> dict[ExampleColumn, Tensor]:
    """The column `bytes` of a task that has it: it is the same at every rank."""
    if not isinstance(task, GenerativeTask):
        return {}
    counts = [task.spelled_bytes(dataset.example(index)) for index in shard]
    return {"bytes": torch.tensor(counts, dtype=torch.float64)}


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _summed(losses: Tensor, places: Sequence[int]) -> Tensor:
    """Each example's loss, over its targets."""
    return losses.cpu().double().view(len(places), -1).sum(1)


def _targets(nested: NestedLora, batch: Batch) -> Tensor:
    """The number of each example's targets."""
    counts = count_each(nested.task, batch.at_hand)
    if sum(counts) != batch.n_targets:
        raise InputError(
            f"{type(nested.task).__name__}.count_targets: expected of a batch the sum over its examples, "
            f"{sum(counts)}, got {batch.n_targets}",
            "model.task",
        )
    return torch.tensor(counts)


def _columns(task: Task, outputs: Any, batch: Batch) -> Iterator[tuple[ExampleColumn, Tensor]]:
    if (labels := task.answers(outputs, batch.tensors)) is not None:
        yield "predicted", labels[0]
        yield "actual", labels[1]
        if (confidences := task.confidences(outputs, batch.tensors)) is not None:
            yield "confidence", confidences
    if (positives := task.positives(outputs, batch.tensors)) is not None:
        yield "true_positives", positives[0]
        yield "predicted_positives", positives[1]
        yield "actual_positives", positives[2]
    if (numbers := task.estimates(outputs, batch.tensors)) is not None:
        yield "predicted_value", numbers[0]
        yield "actual_value", numbers[1]
