"""Nested LoRA on a PEFT model: the only file that knows PEFT's internals.

ΔW(r) = s · B[:, :r] · A[:r, :] with one scale s at every rank. Each tier r has a physical PEFT adapter `r{r}`
of its own; an adapter travels rank-major: row j of `rows` [r, width] is A_m[j, :] then B_m[:, j] of every adapted
module m in order, and `dense` holds the parameters of modules_to_save one after the other.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .errors import InputError, Problems
from .messages import DenseShape, LeftOut, LoraSpec, ModuleShape
from .tasks.task import Task

_BASE_PREFIX = "base_model.model."
# PEFT's: adapters, and copies of what is trained in full beside what it was.
_OWN_PARAMETER = re.compile(r"\.(lora_\w+|modules_to_save|original_module)\.")


@dataclass(frozen=True)
class AdaptedModule:
    shape: ModuleShape
    layer: LoraLayer
    # W0, as it was loaded.
    pristine: nn.Parameter

    @property
    def width(self) -> int:
        return self.shape.in_ + self.shape.out


@dataclass(frozen=True)
class SavedModule:
    """A module trained in full: one copy of it per adapter."""

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

    # The frozen model computes in it, under autocast where it is not float32; what is trained is float32.
    compute: torch.dtype = torch.float32

    @property
    def width(self) -> int:
        return sum(module.width for module in self.modules)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dense_shapes(self) -> list[DenseShape]:
        return [DenseShape(name, list(value.shape)) for name, value in _dense(self, self.tiers[0])]


def wrap(base: nn.Module, task: Task, lora: LoraSpec) -> NestedLora:
    """`base` with one adapter per tier. Its parameters are frozen; new modules_to_save start from its own values."""
    problems = Problems()
    _check_saved_modules(base, task, lora, problems)
    lowest, *others = lora.tiers
    on_meta = any(value.is_meta for value in base.parameters())
    model, targets = None, None
    with problems.gathered("lora.target_modules"):
        targets = _targets(base, task, lora)
        try:
            config = _config(lowest, task, lora, targets)
            model = get_peft_model(base, config, adapter_name=_name(lowest), low_cpu_mem_usage=on_meta)  # pyright: ignore[reportArgumentType]
        except ValueError as error:  # none of its modules match, or one of them cannot be adapted
            if lora.target_modules is None:
                raise InputError(
                    f"is needed: PEFT has no choice of its own for {type(base).__name__}; name modules, or all-linear"
                ) from error
            raise InputError(f"{lora.target_modules}: {error}") from error
    if model is None:
        problems.raise_any()
    assert isinstance(model, PeftModel)
    for r in others:
        model.add_adapter(_name(r), _config(r, task, lora, targets), low_cpu_mem_usage=on_meta)
    modules = tuple(_adapted_modules(model, problems))
    _check_ranks(modules, lora.r, problems)
    problems.raise_any()
    for module in modules:
        # lora_alpha / r may miss s by a rounding, and every tier must have the very same s.
        module.layer.scaling.update({_name(r): lora.scale for r in lora.tiers})
    saved = tuple(
        SavedModule(name.removeprefix(_BASE_PREFIX), module)
        for name, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    )
    for module in saved:
        module.wrapper.modules_to_save.float()  # what is trained is f32 whatever the base model is, as PEFT has A and B
    is_f32 = task.model.dtype == "f32" and task.model.quantization is None
    compute = torch.float32 if is_f32 else torch.bfloat16
    return NestedLora(model, task, tuple(lora.tiers), lora.scale, modules, saved, compute)


def left_out(nested: NestedLora) -> list[LeftOut]:
    """
    Weights of two sides or more that no adapter acts on and that are not trained in full, such as experts that are held
    in one parameter with three. Those whose names differ in numbers alone are one entry.
    """
    adapted = {id(module.pristine) for module in nested.modules}
    kinds = {
        id(value): type(module).__name__ for module in nested.model.modules() for value in module.parameters(False)
    }
    entries: dict[tuple[str, str], list[int]] = {}
    for name, value in nested.model.named_parameters():
        if value.dim() < 2 or value.requires_grad or id(value) in adapted or _OWN_PARAMETER.search(name):
            continue
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", name.removeprefix(_BASE_PREFIX).removesuffix(".weight"))
        entries.setdefault((pattern, kinds[id(value)]), []).append(n_weights(value))
    return [LeftOut(name, kind, len(sizes), sum(sizes)) for (name, kind), sizes in entries.items()]


def n_weights(value: nn.Parameter) -> int:
    """In 4 bits, bitsandbytes holds two in a byte."""
    return 2 * value.numel() * value.element_size() if type(value).__name__ == "Params4bit" else value.numel()


def activate(nested: NestedLora, r: int) -> None:
    """Has the model answer, and gradients flow, through tier r's adapter alone."""
    nested.model.set_adapter(_name(r))


def set_checkpointing(nested: NestedLora, wanted: bool) -> None:
    """Has training compute activations again on the way back instead of keeping them, or keep them."""
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
    """Tier r's adapter as rows [r, width] and dense [size]: float32 on the CPU, in memory of their own."""
    factors = (part for module in nested.modules for a, b in [_factors(module, r)] for part in (a, b.T))
    rows = torch.cat([part.cpu() for part in factors], dim=1)
    values = [value.reshape(-1).cpu() for _, value in _dense(nested, r)]
    return rows, torch.cat(values) if values else torch.zeros(0)


@torch.no_grad()
def set_base(nested: NestedLora, merged: Tensor | None) -> None:
    """
    Has the adapters act on W0 + s·Σ_j B[:, j]·A[j, :] over the components of `merged` [n, width], or on W0 itself.
    W0 is never written to: what is merged is a parameter of its own, in its place.
    """
    for module in nested.modules:
        _base(module).weight = module.pristine
    if merged is None:
        return
    if not all(module.pristine.is_floating_point() for module in nested.modules):
        raise InputError(
            "quantised weights cannot take in what an aggregation merges into the base model, as FLoRA does; leave it "
            "out, or take another aggregation",
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
    Within it, tier r's adapter acts as its prefix: of one rank for all, or of `ranks[i]` for example i of the batch.
    Keep it open until backward has ended, since activation checkpointing runs the forward pass again.
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
            hooks.enter_context(module.layer.lora_A[_name(r)].register_forward_hook(hook))
        yield


def _mask_hook(name: str, mask: Tensor):
    def apply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept = mask.to(output.dtype)
        if kept.dim() == 1:
            return output * kept
        if output.shape[0] != mask.shape[0]:
            raise InputError(
                f"{name} sees {output.shape[0]} rows for a batch of {mask.shape[0]} examples, so they cannot be given "
                "truncations of their own; take objective sum or sampled, without batched_truncations, "
                "or leave it out of target_modules"
            )
        return output * kept.view(kept.shape[0], *[1] * (output.dim() - 2), kept.shape[1])

    return apply


def _name(r: int) -> str:
    return f"r{r}"


def _factors(module: AdaptedModule, r: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A [r, in] and B [out, r]."""
    return module.layer.lora_A[_name(r)].weight, module.layer.lora_B[_name(r)].weight  # pyright: ignore[reportReturnType]


def _base(module: AdaptedModule) -> nn.Linear | Conv1D:
    return module.layer.get_base_layer()  # pyright: ignore[reportReturnType] - wrap refuses all others


def _dense(nested: NestedLora, r: int) -> list[tuple[str, nn.Parameter]]:
    return [parameter for module in nested.saved for parameter in module.parameters(_name(r))]


def _config(r: int, task: Task, lora: LoraSpec, targets: str | list[str] | None) -> LoraConfig:
    return LoraConfig(
        r=r,
        lora_alpha=lora.scale * r,  # pyright: ignore[reportArgumentType] - PEFT only divides it by r
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        modules_to_save=list(task.modules_to_save) or None,
        task_type=None if task.peft_type is None else TaskType(task.peft_type),
    )


def _targets(base: nn.Module, task: Task, lora: LoraSpec) -> str | list[str] | None:
    """
    "all-linear" as names, which PEFT then takes as they are: every nn.Linear and Conv1D but the head. By itself PEFT
    adds, from version to version, other modules that it can adapt.
    """
    if lora.target_modules is None and not hasattr(base, "config"):
        raise InputError("is needed: PEFT has a choice of its own for models of transformers alone")
    if lora.target_modules != "all-linear":
        return lora.target_modules
    saved, head = set(task.modules_to_save), _output_layer(base)
    names = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name != head and saved.isdisjoint(name.split("."))
    ]
    if not names:
        raise InputError(f"all-linear: {type(base).__name__} has neither nn.Linear nor Conv1D to adapt")
    return names


def _output_layer(base: nn.Module) -> str | None:
    """The name of what turns hidden states into tokens."""
    get = getattr(base, "get_output_embeddings", None)
    layer = None if get is None else get()
    return next((name for name, module in base.named_modules() if module is layer), None) if layer is not None else None


def _adapted_modules(model: PeftModel, problems: Problems) -> Iterator[AdaptedModule]:
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        base, name = layer.get_base_layer(), name.removeprefix(_BASE_PREFIX)
        if not (type(layer).__name__ in _LAYERS and isinstance(base, nn.Linear | Conv1D)):
            problems.add(
                "lora.target_modules",
                f"takes in {name}, a {type(base).__name__}: adapters go on nn.Linear and Conv1D alone",
            )
            continue
        # Both are known for these kinds of module.
        shape = ModuleShape(name, layer.in_features, layer.out_features)  # pyright: ignore[reportArgumentType]
        yield AdaptedModule(shape, layer, base.get_parameter("weight"))


# The last two are of quantised bases, whose modules are nn.Linear too.
_LAYERS = ("Linear", "Linear8bitLt", "Linear4bit")


def _check_ranks(modules: Sequence[AdaptedModule], r: int, problems: Problems) -> None:
    small = [module.shape for module in modules if min(module.shape.in_, module.shape.out) < r]
    if small:
        least = min(small, key=lambda shape: min(shape.in_, shape.out))
        others = f" and {len(small) - 1} more" if len(small) > 1 else ""
        problems.add(
            "lora.r",
            f"must be at most {min(least.in_, least.out)}, the smaller side of the adapted module "
            f"{least.name}{others}, got {r}",
        )


def _check_saved_modules(base: nn.Module, task: Task, lora: LoraSpec, problems: Problems) -> None:
    names = [name for name, _ in base.named_modules()]
    missing = [want for want in lora.modules_to_save or [] if not any(name.endswith(want) for name in names)]
    # Of a task's heads, an architecture has one.
    if task.heads and not any(name.endswith(task.heads) for name in names):
        missing += task.heads
    if missing:
        problems.add("lora.modules_to_save", f"names {', '.join(missing)}, which {type(base).__name__} does not have")
    weights: dict[int, list[str]] = {}
    for name, module in base.named_modules():
        for value in module.parameters(recurse=False):
            weights.setdefault(id(value), []).append(name)
    for tied in weights.values():
        if len(tied) > 1 and any(name.endswith(want) for name in tied for want in task.modules_to_save):
            problems.add(
                "lora.modules_to_save",
                f"takes in one of {' and '.join(tied)}, which are one weight: trained in full they would come apart",
            )


def _check_shape(name: str, tensor: Tensor, expected: list[int]) -> None:
    if list(tensor.shape) != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {list(tensor.shape)}")
