"""Builds a task's base model with its nested adapters."""

from typing import Protocol

import torch
from torch import nn

from ..seeds import derive
from ..tasks.find import find_task
from ..tasks.task import Task
from ..wire.specs import LoraSpec, ModelSpec
from .add_adapters import add_adapters, n_weights
from .nested_lora import NestedLora


class Known(Protocol):
    """What a model takes from the data."""

    @property
    def labels(self) -> list[str]: ...

    @property
    def pad_token_id(self) -> int: ...


def build_nested(model: ModelSpec, lora: LoraSpec, known: Known, device: torch.device, seed: str) -> NestedLora:
    """The model on its device. Initialises new parameters from `seed`, so they are the same in every worker."""
    task = find_task(model, device)
    task.labels, task.pad_token_id = known.labels, known.pad_token_id
    return build_from_task(task, lora, seed)


def build_from_task(task: Task, lora: LoraSpec, seed: str) -> NestedLora:
    torch.manual_seed(derive(seed, "new parameters"))
    prepare_heads(task, lora)
    base = task.build_model()
    if task.model.quantization is None:  # quantised weights were loaded onto their device
        base = base.to(task.device)
    return add_adapters(base, task, lora)


def prepare_heads(task: Task, lora: LoraSpec) -> None:
    task.modules_to_save = list(dict.fromkeys([*(lora.modules_to_save or []), *task.heads]))


def n_frozen(nested: NestedLora) -> int:
    """The number of frozen parameters: those of the base model, without modules trained in full."""
    base: nn.Module = nested.model.get_base_model()
    adapters = sum(value.numel() for name, value in base.named_parameters() if ".lora_" in name)
    copies = sum(value.numel() for module in nested.saved for value in module.wrapper.parameters())
    return sum(map(n_weights, base.parameters())) - adapters - copies
