"""Examples as batches on a device, and the loss over them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..prepared_dataset import PreparedDataset
from ..tasks.task import Task
from .nested_lora import NestedLora


@dataclass(frozen=True)
class Batch:
    # By name; the first dimension of each is the examples.
    tensors: dict[str, Tensor]
    # The number of targets that the loss averages over; known without asking the device.
    n_targets: int
    # The same on the CPU, where counting waits for no device.
    at_hand: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))


def collate(task: Task, dataset: PreparedDataset, examples: Sequence[int], device: torch.device) -> Batch:
    tensors = task.collate([dataset.example(index) for index in examples])
    return Batch({name: value.to(device) for name, value in tensors.items()}, task.count_targets(tensors), tensors)


def count_each(task: Task, tensors: Mapping[str, Tensor]) -> list[int]:
    """The number of targets of each example of a batch."""
    return [
        task.count_targets({name: value[place : place + 1] for name, value in tensors.items()})
        for place in range(len(next(iter(tensors.values()))))
    ]


def forward(nested: NestedLora, batch: Batch) -> tuple[Any, Tensor]:
    """The model's outputs, and the losses in the order of the examples."""
    with precision(nested):
        outputs = nested.task.forward(nested.model, batch.tensors)
    return outputs, nested.task.losses(outputs, batch.tensors)


@contextmanager
def precision(nested: NestedLora) -> Iterator[None]:
    """Within the block, a model whose frozen weights are not f32 computes in bf16; f32 parameters stay f32."""
    with torch.autocast(nested.device.type, dtype=torch.bfloat16, enabled=nested.compute == torch.bfloat16):
        yield


def mean_loss(nested: NestedLora, batch: Batch) -> Tensor:
    """The mean over the batch's targets."""
    return forward(nested, batch)[1].sum() / batch.n_targets
