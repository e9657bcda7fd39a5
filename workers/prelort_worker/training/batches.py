"""Examples as batches on a device, and the loss over them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..prepared_dataset import Index
from ..tasks.task import Task
from .nested_lora import NestedLora


@dataclass(frozen=True)
class Batch:
    # By name; the first side of each is the examples.
    tensors: dict[str, Tensor]
    # What its loss is the mean over; known without asking the device.
    n_targets: int

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def repeated(self, times: int) -> "Batch":
        """The whole batch, time after time."""
        tensors = {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in self.tensors.items()}
        return Batch(tensors, self.n_targets * times)


def collate(task: Task, index: Index, examples: Sequence[int], device: torch.device) -> Batch:
    tensors = task.collate([index.example(place) for place in examples])
    return Batch({name: value.to(device) for name, value in tensors.items()}, task.count_targets(tensors))


def forward(nested: NestedLora, batch: Batch) -> tuple[Any, Tensor]:
    """What the model gives, and its losses, in the order of the examples."""
    with precision(nested):
        outputs = nested.task.forward(nested.model, batch.tensors)
    return outputs, nested.task.losses(outputs, batch.tensors)


@contextmanager
def precision(nested: NestedLora) -> Iterator[None]:
    """Within it, a model whose frozen weights are not f32 computes in bf16 and keeps its f32 parameters f32."""
    with torch.autocast(nested.device.type, dtype=torch.bfloat16, enabled=nested.compute == torch.bfloat16):
        yield


def mean_loss(nested: NestedLora, batch: Batch) -> Tensor:
    """Over the batch's targets."""
    return forward(nested, batch)[1].sum() / batch.n_targets


def mean_losses(nested: NestedLora, batch: Batch, times: int) -> Tensor:
    """The mean loss of each part [times] of a batch that was repeated."""
    return forward(nested, batch)[1].view(times, -1).sum(1) / (batch.n_targets // times)
