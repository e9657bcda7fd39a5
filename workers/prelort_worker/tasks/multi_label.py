"""Predicts any number of labels for a text: transformers' multi_label_classification."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..rows.row import Row
from ..rows.templates import categories
from ..wire.specs import DataSpec
from .sequence_classification import Reply, SequenceClassification
from .task import Batch


class MultiLabelClassification(SequenceClassification):
    """A label is predicted where its probability, by a sigmoid of its own, is above one half."""

    fewest_labels: ClassVar[int] = 1

    def labels_of(self, row: Row, data: DataSpec) -> tuple[str, ...]:
        return categories(row, data.label or "", "data.label", data.label_separator or ";")

    def target(self, row: Row, data: DataSpec, numbers: Mapping[str, int]) -> Tensor:
        """[labels], 1 for those that the row has."""
        held = torch.zeros(len(numbers))
        held[[numbers[label] for label in self.labels_of(row, data)]] = 1
        return held

    def head_config(self) -> dict[str, Any]:
        return {**super().head_config(), "problem_type": "multi_label_classification"}

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Binary cross-entropy, mean over the labels."""
        return binary_cross_entropy_with_logits(outputs.logits.float(), batch["labels"], reduction="none").mean(-1)

    def count_targets(self, batch: Batch) -> int:
        return len(batch["labels"])

    def answers(self, outputs: Any, batch: Batch) -> None:
        return None

    def confidences(self, outputs: Any, batch: Batch) -> None:
        return None

    def positives(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        predicted, actual = outputs.logits > 0, batch["labels"] > 0
        return (predicted & actual).sum(-1), predicted.sum(-1), actual.sum(-1)

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """subset_accuracy: whether exactly the example's labels were predicted."""
        return {"subset_accuracy": ((outputs.logits > 0) == (batch["labels"] > 0)).all(-1).float()}

    def reply(self, logits: Tensor) -> Reply:
        probabilities = logits.sigmoid()
        predicted = [label for label, value in zip(self.labels, probabilities.tolist(), strict=True) if value > 0.5]
        return Reply("; ".join(predicted) or "no label", self.likeliest(probabilities))
