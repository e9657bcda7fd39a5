"""Merges an adapter into its base model: W0 + s·B·A in every adapted module, and the modules trained in full."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .errors import InputError
from .files.file_hashes import hash_files
from .files.source_files import model_files
from .models import found
from .tasks.find import find_task
from .tasks.task import Task
from .tasks.text import TextTask
from .wire.messages import DenseShape, ModuleShape
from .wire.specs import ModelSpec

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass(frozen=True)
class Request:
    model: ModelSpec
    # SHA-256 by name of the base model's files that the adapter was trained on.
    base: dict[str, str]
    cache_dir: str
    # Of the data, in the order of their ids.
    labels: list[str]
    # Modules trained in full; the checkpoint may lack them.
    modules_to_save: list[str]
    scale: float
    modules: list[ModuleShape]
    dense: list[DenseShape]
    # A safetensors file: `rows` [n, width], rank-major as on the wire, and `dense` [size].
    components: str
    dtype: Literal["f32", "bf16", "f16"]
    # An existing folder.
    out: str


def export(request: Request) -> list[str]:
    """Writes weights, configuration and tokenizer; returns remarks for the user."""
    task = find_task(_plain(request.model), torch.device("cpu"))
    base = _load(task, request)
    _check_files(request)
    tensors = load_file(request.components)
    remarks = merge(base, request, tensors["rows"], tensors["dense"])
    base.to(_DTYPES[request.dtype])  # pyright: ignore[reportArgumentType] - a dtype, in place
    _check_finite(base, request.dtype)
    base.save_pretrained(request.out)
    for companion in ("tokenizer", "processor"):
        part: Any = getattr(task, companion, None)
        if part is not None:
            part.save_pretrained(request.out)
    if request.model.quantization is not None:
        whole = f"an adapter that was trained with {request.model.quantization} weights is merged into unquantised ones"
        remarks.append(f"{whole}, so its answers differ a little")
    return remarks


@torch.no_grad()
def merge(base: PreTrainedModel, request: Request, rows: Tensor, dense: Tensor) -> list[str]:
    """
    Each product is computed in float32, one module at a time, and rounded once to the requested dtype.
    `rows` [n, width], `dense` [size].
    """
    remarks: list[str] = []
    dtype, offset = _DTYPES[request.dtype], 0
    for shape in request.modules:
        module: Any = base.get_submodule(shape.name)
        remarks += _untie(base, module, shape.name)
        a, b = rows[:, offset : offset + shape.in_], rows[:, offset + shape.in_ : offset + shape.in_ + shape.out].T
        change = request.scale * (b @ a)  # [out, in], which Conv1D has transposed
        merged = module.weight.float() + (change.T if isinstance(module, Conv1D) else change)
        module.weight = nn.Parameter(merged.to(dtype), requires_grad=False)
        offset += shape.in_ + shape.out
    offset = 0
    for parameter in request.dense:
        owner, _, name = parameter.name.rpartition(".")
        size = torch.Size(parameter.shape).numel()
        value = dense[offset : offset + size].view(parameter.shape)
        if (there := list(base.get_parameter(parameter.name).shape)) != parameter.shape:
            raise InputError(
                f"{parameter.name}: expected shape {parameter.shape}, as the run trained it, got {there} in "
                f"{request.model.name_or_path}; check that it is the model the run started from"
            )
        setattr(base.get_submodule(owner), name, nn.Parameter(value.to(dtype), requires_grad=False))
        offset += size
    return remarks


def _plain(model: ModelSpec) -> ModelSpec:
    """Quantised weights cannot be merged into, and the attention implementation does not affect weights."""
    return replace(model, quantization=None, attention=None)


def _load(task: Task, request: Request) -> PreTrainedModel:
    task.labels, task.modules_to_save = request.labels, request.modules_to_save
    if isinstance(task, TextTask):
        task.pad_token_id = int(task.tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType] - loaded with one
    base = task.build_model()
    if not isinstance(base, PreTrainedModel):
        raise InputError(
            f"the task {request.model.task} builds a {type(base).__name__}, which is not a transformers model "
            "and cannot be saved whole; export the adapter only, without --merge"
        )
    _check_modules(base, request)
    _restore_cache(base, request.model)
    return base


def _check_files(request: Request) -> None:
    """Called after loading, when a hub model is on disk. A worker in another language lists no files."""
    if not request.base:
        return
    files = [each for each in model_files(request.model).files if each.part != "code"]
    hashes = hash_files([each.path for each in files], Path(request.cache_dir))
    there = {each.name: sha for each, sha in zip(files, hashes, strict=True)}
    other = [name for name in {**request.base, **there} if request.base.get(name) != there.get(name)]
    if other:
        raise InputError(
            f"{', '.join(sorted(other)[:5])} of {request.model.name_or_path}: differs from the file that the adapter "
            "was trained on (by its SHA-256); restore it, or export the adapter only, without --merge"
        )


def _check_modules(base: PreTrainedModel, request: Request) -> None:
    there = dict(base.named_modules())
    for shape in request.modules:
        module = there.get(shape.name)
        expected = (shape.in_, shape.out) if isinstance(module, Conv1D) else (shape.out, shape.in_)
        got = tuple(module.weight.shape) if isinstance(module, nn.Linear | Conv1D) else None
        if got != expected:
            raise InputError(
                f"{shape.name}: expected a linear module with weights {list(expected)}, as the run adapted it, got "
                f"{'none' if got is None else list(got)} in {request.model.name_or_path}; check that it is the model "
                "the run started from"
            )


def _check_finite(base: PreTrainedModel, dtype: str) -> None:
    """float16 ends at 65504."""
    wrong = next((name for name, value in base.named_parameters() if not value.isfinite().all()), None)
    if wrong is not None:
        raise InputError(f"{wrong}: has values that {dtype} cannot hold; use --dtype bf16 or f32")


def _restore_cache(base: PreTrainedModel, model: ModelSpec) -> None:
    """Restores use_cache, which training turns off and generation needs."""
    with found(model):
        original = AutoConfig.from_pretrained(
            model.name_or_path, revision=model.revision or "main", trust_remote_code=model.trust_remote_code
        )
    settings = base.config.get_text_config()
    if hasattr(settings, "use_cache"):
        settings.use_cache = getattr(original.get_text_config(), "use_cache", True)


def _untie(base: PreTrainedModel, module: nn.Module, name: str) -> list[str]:
    """The adapter acted on this module only, so modules that share its weight keep the original."""
    own = f"{name}.weight"
    others = [
        other
        for other, value in base.named_parameters(remove_duplicate=False)
        if value is module.weight and other != own
    ]
    if not others:
        return []
    shared = f"{own} is the same weight as {' and '.join(others)}"
    if module is not base.get_output_embeddings() or base.config.is_encoder_decoder:
        raise InputError(
            f"{shared}, on which the adapter did not act; export the adapter only, without --merge, or train without "
            f"{name} in lora.target_modules"
        )
    for settings in (base.config, base.config.get_text_config()):
        settings.tie_word_embeddings = False
    base.all_tied_weights_keys = {
        tied: source for tied, source in base.all_tied_weights_keys.items() if own not in (tied, source)
    }
    return [f"{shared} in the base model; merged they are two (tie_word_embeddings: false), so the model is larger"]
