"""A task's base model with its nested adapters."""

from typing import Protocol

import torch
from torch import nn

from ..seeds import derive
from ..tasks.find import find_task
from ..tasks.task import Task
from ..wire.messages import LoraSpec, ModelSpec
from .add_adapters import n_weights, wrap
from .nested_lora import NestedLora


class Known(Protocol):
    """What the data decides of a model."""

    @property
    def labels(self) -> list[str]: ...

    @property
    def pad_token_id(self) -> int: ...


def assemble(model: ModelSpec, lora: LoraSpec, known: Known, device: torch.device, seed: str) -> NestedLora:
    """On its device. New parameters are drawn from `seed`, so every worker has the same."""
    task = find_task(model, device)
    task.labels, task.pad_token_id = known.labels, known.pad_token_id
    return build(task, lora, seed)


def build(task: Task, lora: LoraSpec, seed: str) -> NestedLora:
    torch.manual_seed(derive(seed, "new parameters"))
    prepare_heads(task, lora)
    base = task.build_model()
    if task.model.quantization is None:  # what is quantised was loaded where it is to be
        base = base.to(task.device)
    return wrap(base, task, lora)


def prepare_heads(task: Task, lora: LoraSpec) -> None:
    task.modules_to_save = list(dict.fromkeys([*(lora.modules_to_save or []), *task.heads]))


def n_frozen(nested: NestedLora) -> int:
    """Parameters of the base model, without those of modules that are trained in full."""
    base: nn.Module = nested.model.get_base_model()
    adapters = sum(value.numel() for name, value in base.named_parameters() if ".lora_" in name)
    copies = sum(value.numel() for module in nested.saved for value in module.wrapper.parameters())
    return sum(map(n_weights, base.parameters())) - adapters - copies
