"""What a model is, before any of its weights are read: whether it can be adapted, and takes the data."""

from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import Problems
from ..prepared_dataset import Index
from ..tasks.task import Task
from ..training.add_adapters import wrap
from ..training.build import prepare_heads
from ..wire.messages import LoraSpec


def inspect(task: Task, lora: LoraSpec, index: Index | None, problems: Problems) -> None:
    """Adds what is wrong. Of a model that one's own task builds, nothing is known before it is loaded."""
    if not _is_known(task):
        return
    if index is None:  # its data cannot be used; the shapes do not hang on the labels
        task.labels = task.labels or ["0", "1"]
    else:
        task.labels, task.pad_token_id = index.info.labels, index.info.pad_token_id
    prepare_heads(task, lora)
    model = task.model
    with problems.gathered("model"):
        # No shape hangs on it, and what is wrong with it should not hide what else is.
        task.model = replace(model, attention=None)
        base = _on_meta(task)
        with problems.gathered("model.attention"):
            task.model = model
            if model.attention is not None:
                _on_meta(task)
        if index is not None:
            _check_tokens(base, index, problems)
        wrap(base, task, lora)
    task.model = model


def _is_known(task: Task) -> bool:
    owner = next(cls for cls in type(task).__mro__ if "build_model" in vars(cls))
    return owner is not Task and owner.__module__.startswith(f"{Task.__module__.partition('.')[0]}.")


def _on_meta(task: Task) -> nn.Module:
    return task.build_model(on_meta=True)  # pyright: ignore[reportCallIssue] - a built-in task's has it


def _check_tokens(base: Any, index: Index, problems: Problems) -> None:
    if "input_ids" not in index.fields:
        return
    settings = base.config.get_text_config()
    limit, longest = _positions(base, settings), max(_longest(index, name) for name in ("input_ids", "labels"))
    if limit is not None and longest > limit:
        problems.add(
            "data.max_length",
            f"the longest example has {longest} tokens, the model takes {limit}; lower data.max_length",
        )
    size, largest = getattr(settings, "vocab_size", None), int(index.fields["input_ids"].max())
    if size is not None and largest >= size:
        problems.add(
            "model.name_or_path",
            f"the tokenizer gives token {largest}, the model knows {size}: they do not belong together",
        )


def _longest(index: Index, name: str) -> int:
    """Of a field that holds tokens; 0 of one that holds a number for each example, or is not there."""
    values, starts = index.fields.get(name), index.fields.get(f"{name}.starts")
    if starts is not None:
        return int(starts.diff().max())
    return values.shape[1] if values is not None and values.dim() > 1 else 0


def _positions(base: nn.Module, settings: Any) -> int | None:
    limit = getattr(settings, "max_position_embeddings", None)
    for module in base.modules():
        # RoBERTa counts positions from behind its padding token's.
        table = getattr(module, "position_embeddings", None)
        if limit is not None and isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return limit - table.padding_idx - 1
    return limit
