"""Checks, before any weights are read, whether a model can be adapted and accepts the data."""

from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import Problems
from ..prepared_dataset import PreparedDataset
from ..tasks.task import Task
from ..training.add_adapters import add_adapters
from ..training.build import prepare_heads
from ..wire.specs import LoraSpec


def check_model(task: Task, lora: LoraSpec, dataset: PreparedDataset | None, problems: Problems) -> None:
    """Adds problems. Skips a custom task's model, which is unknown before it is loaded."""
    if not _is_known(task):
        return
    if dataset is None:  # the data cannot be used; shapes do not depend on the labels
        task.labels = task.labels or ["0", "1"]
    else:
        task.labels, task.pad_token_id = dataset.info.labels, dataset.info.pad_token_id
    prepare_heads(task, lora)
    model = task.model
    with problems.gathered("model"):
        # No shape depends on it, and a problem with it should not hide others.
        task.model = replace(model, attention=None)
        base = _on_meta(task)
        with problems.gathered("model.attention"):
            task.model = model
            if model.attention is not None:
                _on_meta(task)
        if dataset is not None:
            _check_tokens(base, dataset, problems)
        add_adapters(base, task, lora)
    task.model = model


def _is_known(task: Task) -> bool:
    owner = next(cls for cls in type(task).__mro__ if "build_model" in vars(cls))
    return owner is not Task and owner.__module__.startswith(f"{Task.__module__.partition('.')[0]}.")


def _on_meta(task: Task) -> nn.Module:
    return task.build_model(on_meta=True)  # pyright: ignore[reportCallIssue] - a built-in task's has it


def _check_tokens(base: Any, dataset: PreparedDataset, problems: Problems) -> None:
    if "input_ids" not in dataset.fields:
        return
    settings = base.config.get_text_config()
    limit, longest = _positions(base, settings), max(_longest(dataset, name) for name in ("input_ids", "labels"))
    if limit is not None and longest > limit:
        problems.add(
            "data.max_length",
            f"the longest example has {longest} tokens, but the model accepts at most {limit}; lower data.max_length",
        )
    size, largest = getattr(settings, "vocab_size", None), int(dataset.fields["input_ids"].max())
    if size is not None and largest >= size:
        problems.add(
            "model.name_or_path",
            f"the tokenizer produces token {largest}, but the model has embeddings for {size}: they do not match",
        )


def _longest(dataset: PreparedDataset, name: str) -> int:
    """The longest value of a field of tokens; 0 for a field with one number per example, or a missing one."""
    values, starts = dataset.fields.get(name), dataset.fields.get(f"{name}.starts")
    if starts is not None:
        return int(starts.diff().max())
    return values.shape[1] if values is not None and values.dim() > 1 else 0


def _positions(base: nn.Module, settings: Any) -> int | None:
    limit = getattr(settings, "max_position_embeddings", None)
    for module in base.modules():
        # RoBERTa's positions start after that of its padding token.
        table = getattr(module, "position_embeddings", None)
        if limit is not None and isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return limit - table.padding_idx - 1
    return limit
