"""Predicts a number for a text: transformers' problem type `regression`."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..rows.row import Row
from ..rows.templates import number
from ..wire.specs import DataSpec
from .sequence_classification import Reply, SequenceClassification
from .task import Batch


class SequenceRegression(SequenceClassification):
    """The loss is the squared error; numbers are learned as they are, so scale large ones before."""

    fewest_labels: ClassVar[int] = 0

    def labels_of(self, row: Row, data: DataSpec) -> tuple[str, ...]:
        number(row, data.label or "", "data.label")
        return ()

    def target(self, row: Row, data: DataSpec, numbers: Mapping[str, int]) -> Tensor:
        return torch.tensor(number(row, data.label or "", "data.label"), dtype=torch.float32)

    def head_config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        return (_predicted(outputs) - batch["labels"]).square()

    def count_targets(self, batch: Batch) -> int:
        return len(batch["labels"])

    def answers(self, outputs: Any, batch: Batch) -> None:
        return None

    def confidences(self, outputs: Any, batch: Batch) -> None:
        return None

    def estimates(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        return _predicted(outputs), batch["labels"]

    def reply(self, logits: Tensor) -> Reply:
        return Reply(f"{logits.item():.6g}", None)


def _predicted(outputs: Any) -> Tensor:
    return outputs.logits.float().squeeze(-1)
