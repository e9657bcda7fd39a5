"""Adds one PEFT adapter per tier to a base model, and finds the modules they act on."""

import re
from collections.abc import Iterator, Sequence

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import InputError, Problems, list_names
from ..tasks.task import Task
from ..wire.messages import LeftOut, ModuleShape
from ..wire.specs import LoraSpec
from .nested_lora import AdaptedModule, NestedLora, SavedModule, adapter_name

_BASE_PREFIX = "base_model.model."
# PEFT's own: adapters, and copies of modules trained in full beside the originals.
_OWN_PARAMETER = re.compile(r"\.(lora_\w+|modules_to_save|original_module)\.")


def add_adapters(base: nn.Module, task: Task, lora: LoraSpec) -> NestedLora:
    """Freezes `base` and adds one adapter per tier; copies in modules_to_save start from its values."""
    problems = Problems()
    _check_saved_modules(base, task, lora, problems)
    lowest, *others = lora.tiers
    on_meta = any(value.is_meta for value in base.parameters())
    model, targets = None, None
    with problems.gathered("lora.target_modules"):
        targets = _targets(base, task, lora)
        try:
            config = _config(lowest, task, lora, targets)
            model = get_peft_model(base, config, adapter_name=adapter_name(lowest), low_cpu_mem_usage=on_meta)  # pyright: ignore[reportArgumentType]
        except ValueError as error:  # no default for this model, or a module cannot be adapted
            if lora.target_modules is None:
                raise InputError(
                    f"is required: PEFT has no default for {type(base).__name__}; name modules, or use all-linear"
                ) from error
            raise InputError(f"{lora.target_modules}: {error}") from error
    if model is None:
        problems.raise_any()
    assert isinstance(model, PeftModel)
    for r in others:
        model.add_adapter(adapter_name(r), _config(r, task, lora, targets), low_cpu_mem_usage=on_meta)
    modules = tuple(_adapted_modules(model, problems))
    _check_ranks(modules, lora.r, problems)
    problems.raise_any()
    for module in modules:
        # lora_alpha / r may differ from s by rounding, and every tier must have exactly the same s.
        module.layer.scaling.update({adapter_name(r): lora.scale for r in lora.tiers})
    saved = tuple(
        SavedModule(name.removeprefix(_BASE_PREFIX), module)
        for name, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    )
    for module in saved:
        module.wrapper.modules_to_save.float()  # trained parameters are always f32, as PEFT's A and B are
    is_f32 = task.model.dtype == "f32" and task.model.quantization is None
    compute = torch.float32 if is_f32 else torch.bfloat16
    return NestedLora(model, task, tuple(lora.tiers), lora.scale, modules, saved, compute)


def left_out(nested: NestedLora) -> list[LeftOut]:
    """
    Weights of two or more dimensions that no adapter acts on and that are not trained in full, such as MoE experts
    stored in one three-dimensional parameter. Weights whose names differ only in numbers form one entry.
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
    """The number of weights; with 4 bits, bitsandbytes packs two into a byte."""
    return 2 * value.numel() * value.element_size() if type(value).__name__ == "Params4bit" else value.numel()


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
    Resolves "all-linear" to names: every nn.Linear and Conv1D except the head. What PEFT itself resolves it to differs
    between versions.
    """
    if lora.target_modules is None and not hasattr(base, "config"):
        raise InputError("is required: PEFT has defaults only for transformers models")
    if lora.target_modules != "all-linear":
        if lora.target_modules is not None:
            _check_targets(base, task, lora.target_modules)
        return lora.target_modules
    names = _linear_names(base, task)
    if not names:
        raise InputError(f"all-linear: {type(base).__name__} has neither nn.Linear nor Conv1D to adapt")
    return names


def _linear_names(base: nn.Module, task: Task) -> list[str]:
    """Names of every nn.Linear and Conv1D, except the head and modules trained in full."""
    saved, head = set(task.modules_to_save), _output_layer(base)
    return [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name != head and saved.isdisjoint(name.split("."))
    ]


def _check_targets(base: nn.Module, task: Task, targets: str | list[str]) -> None:
    """Refuses names that match nothing, by PEFT's rules: PEFT itself objects only if none match."""
    names = [name for name, _ in base.named_modules()]
    if isinstance(targets, str):
        try:
            missing = [] if any(re.fullmatch(targets, name) for name in names) else [targets]
        except re.error as error:
            raise InputError(f"{targets} is not a regular expression: {error}") from error
    else:
        missing = [each for each in targets if not any(f".{name}".endswith(f".{each}") for name in names)]
    if missing:
        short = dict.fromkeys(_last_name(name) for name in _linear_names(base, task))
        raise InputError(
            f"nothing in the model is named {' or '.join(missing)}; "
            f"its linear modules are {list_names(list(short)) or 'none'}"
        )


def _last_name(name: str) -> str:
    """The last part of the name; a number, as in nn.Sequential, with the part before it."""
    before, _, last = name.rpartition(".")
    return f"{_last_name(before)}.{last}" if last.isdecimal() and before else last


def _output_layer(base: nn.Module) -> str | None:
    """The name of the layer that turns hidden states into logits."""
    get = getattr(base, "get_output_embeddings", None)
    layer = None if get is None else get()
    return next((name for name, module in base.named_modules() if module is layer), None) if layer is not None else None


def _adapted_modules(model: PeftModel, problems: Problems) -> Iterator[AdaptedModule]:
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        base, name = layer.get_base_layer(), name.removeprefix(_BASE_PREFIX)
        is_plain = isinstance(base, nn.Linear | Conv1D) and "weight" in dict(base.named_parameters(recurse=False))
        if not (type(layer).__name__ in _LAYERS and is_plain):
            problems.add(
                "lora.target_modules",
                f"matches {name}, a {type(base).__name__}: only nn.Linear and Conv1D can have adapters",
            )
            continue
        # Both are known for these module types.
        shape = ModuleShape(name, layer.in_features, layer.out_features)  # pyright: ignore[reportArgumentType]
        yield AdaptedModule(shape, layer, base.get_parameter("weight"))


# The last two belong to quantised bases, whose modules are nn.Linear too.
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
    # An architecture has one of the task's heads.
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
                f"includes one of {' and '.join(tied)}, which share one weight: training one in full would untie them",
            )
