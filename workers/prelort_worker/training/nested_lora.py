"""Nested LoRA on a PEFT model. Only this file and add_adapters.py, which creates it, know PEFT's internals.

ΔW(r) = s · B[:, :r] · A[:r, :] with one scale s at every rank. Each tier r has its own physical PEFT
adapter `r{r}`. On the wire an adapter is rank-major: row j of `rows` [r, width] is A_m[j, :] then B_m[:, j] of every
adapted module m in order, and `dense` holds the concatenated parameters of modules_to_save.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from transformers.pytorch_utils import Conv1D

from ..errors import InputError
from ..tasks.task import Task
from ..wire.messages import DenseShape, ModuleShape


@dataclass(frozen=True)
class AdaptedModule:
    shape: ModuleShape
    layer: LoraLayer
    # W0 as loaded.
    pristine: nn.Parameter

    @property
    def width(self) -> int:
        return self.shape.in_ + self.shape.out


@dataclass(frozen=True)
class SavedModule:
    """A module trained in full, with one copy per adapter."""

    name: str
    wrapper: ModulesToSaveWrapper

    def parameters(self, adapter: str) -> list[tuple[str, nn.Parameter]]:
        return [
            (f"{self.name}.{name}", value) for name, value in self.wrapper.modules_to_save[adapter].named_parameters()
        ]


@dataclass(frozen=True)
class NestedLora:
    model: PeftModel
    task: Task
    tiers: tuple[int, ...]
    scale: float
    modules: tuple[AdaptedModule, ...]
    saved: tuple[SavedModule, ...]

    # The frozen model computes in this dtype, under autocast if it is not float32; trained parameters are float32.
    compute: torch.dtype = torch.float32

    # Module types, besides PyTorch's norms, whose buffers change in training mode.
    still: frozenset[type[nn.Module]] = frozenset()

    # Training refuses operators without a deterministic form (repeatable.py).
    is_strict: bool = False

    @property
    def width(self) -> int:
        return sum(module.width for module in self.modules)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dense_shapes(self) -> list[DenseShape]:
        return [DenseShape(name, list(value.shape)) for name, value in _dense(self, self.tiers[0])]


def activate(nested: NestedLora, r: int) -> None:
    """Makes the model compute, and gradients flow, through tier r's adapter only."""
    nested.model.set_adapter(adapter_name(r))


def set_training(nested: NestedLora) -> None:
    """
    Training mode, as dropout needs it, except for modules that track statistics, such as BatchNorm, spectral norm or a
    learned codebook. Those stay in evaluation mode and keep the statistics they were loaded with, even inside a module
    that is trained in full.
    """
    nested.model.train()
    for module in nested.model.modules():
        if isinstance(module, _NormBase) or type(module) in nested.still:
            module.training = False


def set_checkpointing(nested: NestedLora, wanted: bool) -> None:
    """Makes training recompute activations in the backward pass instead of storing them, or store them."""
    base: Any = nested.model.get_base_model()
    if wanted == getattr(base, "is_gradient_checkpointing", False):
        return
    if not wanted:
        base.gradient_checkpointing_disable()
        return
    try:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    except (ValueError, AttributeError) as error:
        raise InputError(f"{type(base).__name__} cannot: {error}", "fit.gradient_checkpointing") from error


@torch.no_grad()
def write(nested: NestedLora, r: int, rows: Tensor, dense: Tensor) -> None:
    """Loads rows [r, width] and dense [size] into tier r's adapter."""
    _check_shape("rows", rows, [r, nested.width])
    _check_shape("dense", dense, [sum(value.numel() for _, value in _dense(nested, r))])
    offset = 0
    for module in nested.modules:
        a, b = _factors(module, r)
        a.copy_(rows[:, offset : offset + module.shape.in_])
        b.copy_(rows[:, offset + module.shape.in_ : offset + module.width].T)
        offset += module.width
    offset = 0
    for _, value in _dense(nested, r):
        value.copy_(dense[offset : offset + value.numel()].view_as(value))
        offset += value.numel()


@torch.no_grad()
def read(nested: NestedLora, r: int) -> tuple[Tensor, Tensor]:
    """Tier r's adapter as rows [r, width] and dense [size]: float32 copies on the CPU."""
    factors = (part for module in nested.modules for a, b in [_factors(module, r)] for part in (a, b.T))
    rows = torch.cat([part.cpu() for part in factors], dim=1)
    values = [value.reshape(-1).cpu() for _, value in _dense(nested, r)]
    return rows, torch.cat(values) if values else torch.zeros(0)


@torch.no_grad()
def set_base(nested: NestedLora, merged: Tensor | None) -> None:
    """
    Makes the adapters act on W0 + s·Σ_j B[:, j]·A[j, :] over the components of `merged` [n, width], or on W0 itself.
    W0 is never written to: the merged weight is a separate parameter that replaces it.
    """
    for module in nested.modules:
        _base(module).weight = module.pristine
    if merged is None:
        return
    if not all(module.pristine.is_floating_point() for module in nested.modules):
        raise InputError(
            "cannot be used with an aggregation that merges into the base model, such as flora: quantised weights "
            "cannot be merged into; leave it out, or use another aggregation",
            "model.quantization",
        )
    _check_shape("merged", merged, [len(merged), nested.width])
    offset = 0
    for module in nested.modules:
        part = merged[:, offset : offset + module.width].to(module.pristine.device)
        a, b = part[:, : module.shape.in_], part[:, module.shape.in_ :].T
        change = nested.scale * (b @ a)  # [out, in], which Conv1D has transposed
        weight = module.pristine.float() + (change.T if isinstance(_base(module), Conv1D) else change)
        _base(module).weight = nn.Parameter(weight.to(module.pristine.dtype), requires_grad=False)
        offset += module.width


@contextmanager
def base_as_loaded(nested: NestedLora) -> Iterator[None]:
    """Within the block, the adapters act on W0, whatever `set_base` has merged."""
    bases = [_base(module) for module in nested.modules]
    merged = [cast(nn.Parameter, base.weight) for base in bases]
    for base, module in zip(bases, nested.modules, strict=True):
        base.weight = module.pristine
    try:
        yield
    finally:
        for base, weight in zip(bases, merged, strict=True):
            base.weight = weight


def factors(nested: NestedLora, r: int) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """A [r, in] and B [out, r] of each module."""
    return [_factors(module, r) for module in nested.modules]


def lora_parameters(nested: NestedLora, r: int) -> list[nn.Parameter]:
    return [factor for pair in factors(nested, r) for factor in pair]


def dense_parameters(nested: NestedLora, r: int) -> list[nn.Parameter]:
    return [value for _, value in _dense(nested, r)]


@contextmanager
def truncated(nested: NestedLora, r: int, ranks: int | Sequence[int]) -> Iterator[None]:
    """
    Within the block, tier r's adapter is truncated to a prefix: to one rank for all, or to `ranks[i]` for example i of
    the batch. Keep it open until after backward, since activation checkpointing repeats the forward pass.
    """
    if isinstance(ranks, int) and ranks == r:
        yield
        return
    device = _factors(nested.modules[0], r)[0].device
    kept = torch.tensor(ranks, device=device).unsqueeze(-1)
    mask = (torch.arange(r, device=device) < kept).float()  # [r], or [batch, r]
    with ExitStack() as hooks:
        for module in nested.modules:
            hook = _mask_hook(module.shape.name, mask)
            hooks.enter_context(module.layer.lora_A[adapter_name(r)].register_forward_hook(hook))
        yield


def check_scale(nested: NestedLora, scale: float) -> None:
    if not math.isclose(scale, nested.scale, rel_tol=1e-12):
        raise ValueError(f"scale: expected {nested.scale}, which the model was loaded with, got {scale}")


def check_largest(rows: Tensor, ranks: Sequence[int]) -> None:
    if len(rows) != max(ranks):
        raise ValueError(f"rows: expected the largest of the requested ranks, {max(ranks)}, got {len(rows)}")


def _mask_hook(name: str, mask: Tensor):
    def apply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept = mask.to(output.dtype)
        if kept.dim() == 1:
            return output * kept
        if output.shape[0] != mask.shape[0]:
            raise InputError(
                f"{name} sees {output.shape[0]} rows for a batch of {mask.shape[0]} examples, so they cannot have "
                "truncations of their own; use objective sum or sampled, "
                "or leave it out of target_modules"
            )
        return output * kept.view(kept.shape[0], *[1] * (output.dim() - 2), kept.shape[1])

    return apply


def adapter_name(r: int) -> str:
    return f"r{r}"


def _factors(module: AdaptedModule, r: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A [r, in] and B [out, r]."""
    return module.layer.lora_A[adapter_name(r)].weight, module.layer.lora_B[adapter_name(r)].weight  # pyright: ignore[reportReturnType]


def _base(module: AdaptedModule) -> nn.Linear | Conv1D:
    return module.layer.get_base_layer()  # pyright: ignore[reportReturnType] - add_adapters refuses all others


def _dense(nested: NestedLora, r: int) -> list[tuple[str, nn.Parameter]]:
    return [parameter for module in nested.saved for parameter in module.parameters(adapter_name(r))]


def _check_shape(name: str, tensor: Tensor, expected: list[int]) -> None:
    if list(tensor.shape) != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {list(tensor.shape)}")
