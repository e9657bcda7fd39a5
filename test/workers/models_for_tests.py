"""Tiny wrapped models and prepared data, in memory."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from prelort_worker.client import Resident
from prelort_worker.data import build_index
from prelort_worker.index import Index
from prelort_worker.messages import LoraSpec, Task
from prelort_worker.models import load_base, load_tokenizer
from prelort_worker.nested_lora import NestedLora, wrap
from prelort_worker.wire import Payload, Tensor
from specs import LORA, SEED, data_spec, model_spec
from transformers import GPT2Config, GPT2LMHeadModel


@cache
def index_of(folder: Path, task: Task) -> Index:
    tokenizer = load_tokenizer(model_spec(folder, task).name_or_path)
    return build_index(task, data_spec(folder, task), tokenizer, SEED, lambda _step, _steps: None)


def base_of(folder: Path, task: Task, lora: LoraSpec = LORA, dtype: Literal["f32", "bf16"] = "f32") -> Any:
    info = index_of(folder, task).info
    return load_base(replace(model_spec(folder, task), dtype=dtype), lora, info.labels, info.pad_token_id, SEED)


def nested_of(folder: Path, task: Task, lora: LoraSpec = LORA, dtype: Literal["f32", "bf16"] = "f32") -> NestedLora:
    return wrap(base_of(folder, task, lora, dtype), task, lora)


def resident_of(folder: Path, task: Task = "causal-lm") -> Resident:
    return Resident(nested_of(folder, task), index_of(folder, task), model_spec(folder, task).name_or_path)


def payload(**tensors: torch.Tensor) -> Payload:
    """As it comes off the wire, without the tensors that are empty."""
    return {
        name: Tensor(tuple(tensor.shape), memoryview(bytearray(tensor.numpy().tobytes())))
        for name, tensor in tensors.items()
        if tensor.numel()
    }  # pyright: ignore[reportReturnType]


def tiny_gpt2() -> GPT2LMHeadModel:
    """All of whose projections are Conv1D."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=2))


def random_adapter(nested: NestedLora, r: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank-r prefix of an adapter none of whose parts is zero, the same whatever the model's tiers."""
    size = sum(torch.Size(shape.shape).numel() for shape in nested.dense_shapes)
    rows = [torch.randn(nested.width, generator=torch.Generator().manual_seed(1000 * seed + row)) for row in range(r)]
    return torch.stack(rows) * 0.1, torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 0.1
