"""What a model takes from its data, for a worker that has none."""

import torch

from ..prepared_dataset import DatasetInfo, PreparedDataset, make_dataset
from ..tasks.find import find_task
from ..tasks.text import TextTask
from ..wire.specs import ModelSpec


def without_data(model: ModelSpec, labels: list[str], device: torch.device) -> PreparedDataset:
    """A dataset without clients and examples; `labels` are those that the model was trained with."""
    task = find_task(model, device)
    padding = int(task.tokenizer.pad_token_id) if isinstance(task, TextTask) else 0  # pyright: ignore[reportArgumentType] - loaded with one
    return make_dataset(DatasetInfo(model.task, labels, 0, padding), [], [], [0])
