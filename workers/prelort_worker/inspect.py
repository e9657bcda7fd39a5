"""What a model is, before any of its weights are read: whether it can be adapted, and takes the data."""

from typing import Any

from torch import nn

from .assemble import build
from .errors import Problems
from .index import Index
from .messages import LoraSpec
from .nested_lora import NestedLora
from .tasks.task import Task


def inspect(task: Task, lora: LoraSpec, index: Index | None, problems: Problems) -> None:
    """Adds what is wrong. Of a model that one's own task builds, nothing is known before it is loaded."""
    if not _is_known(task):
        return
    if index is None:  # its data cannot be used; the shapes do not hang on the labels
        task.labels = task.labels or ["0", "1"]
    else:
        task.labels, task.pad_token_id = index.info.labels, index.info.pad_token_id
    with problems.gathered("model"):
        nested = build(task, lora, seed="", on_meta=True)
        if index is not None:
            _check_tokens(nested, index, problems)


def _is_known(task: Task) -> bool:
    owner = next(cls for cls in type(task).__mro__ if "build_model" in vars(cls))
    return owner is not Task and owner.__module__.startswith(f"{__package__}.")


def _check_tokens(nested: NestedLora, index: Index, problems: Problems) -> None:
    base: Any = nested.model.get_base_model()
    if "input_ids" not in index.fields:
        return
    settings = base.config.get_text_config()
    limit, longest = _positions(base, settings), int(index.lengths.max())
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


def _positions(base: nn.Module, settings: Any) -> int | None:
    limit = getattr(settings, "max_position_embeddings", None)
    for module in base.modules():
        # RoBERTa counts positions from behind its padding token's.
        table = getattr(module, "position_embeddings", None)
        if limit is not None and isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return limit - table.padding_idx - 1
    return limit
