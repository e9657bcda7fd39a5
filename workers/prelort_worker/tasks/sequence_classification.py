"""Predicts a label for a text; multi_label.py predicts sets of labels, regression.py numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from ..errors import InputError, RowFaults
from ..models import MeanPooledClassifier, load_pretrained
from ..prepared_dataset import Example
from ..rows.row import Row
from ..rows.templates import fill
from ..wire.generation_messages import Likelihood
from ..wire.specs import DataSpec
from .question import Prompt, Question, alone, fill_from
from .task import Batch, Progress
from .text import BATCH, TextTask, set_tokens

# Labels told of an answer.
_TOLD = 3


@dataclass(frozen=True)
class Reply:
    text: str
    # None: the answer is no label.
    labels: list[Likelihood] | None


class SequenceClassification(TextTask):
    peft_type: ClassVar[str | None] = "SEQ_CLS"
    heads: ClassVar[tuple[str, ...]] = ("classifier", "score")

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        numbers = {label: number for number, label in enumerate(self.labels)}
        examples: list[Example] = []
        faults = RowFaults()
        for start in range(0, len(rows), BATCH):
            progress(start, len(rows))
            batch = rows[start : start + BATCH]
            texts = [fill(data.text or "", row, "data.text") for row in batch]
            whole = self.tokenizer(texts)["input_ids"]
            cut = self.tokenizer(texts, truncation=True, max_length=data.max_length)["input_ids"]
            for row, kept, tokens in zip(batch, cut, whole, strict=True):
                if not kept:
                    faults.add(row.where, "gives a text without a token", "data.text")
                examples.append(
                    {
                        "input_ids": torch.tensor(kept, dtype=torch.int32),
                        "labels": self.target(row, data, numbers),
                        "truncated": torch.tensor(len(kept) < len(tokens)),
                    }
                )
        faults.raise_any(len(rows))
        return examples

    def target(self, row: Row, data: DataSpec, numbers: Mapping[str, int]) -> Tensor:
        """`labels` of the row's example; `numbers`: each label's."""
        return torch.tensor(numbers[self.label(row, data) or ""])

    def head_config(self) -> dict[str, Any]:
        """What the model's configuration says of its head."""
        names = dict(enumerate(self.labels))
        return {
            "num_labels": len(self.labels),
            "id2label": names,
            "label2id": {name: index for index, name in names.items()},
        }

    def build_model(self, on_meta: bool = False) -> nn.Module:
        config = self.head_config()
        if self.model.pooling == "mean":
            base = MeanPooledClassifier.load(self.model, self.device, on_meta, **config)
        else:
            base = load_pretrained(
                AutoModelForSequenceClassification, self.model, self.device, on_meta, self.modules_to_save, **config
            )
        return set_tokens(base, self.pad_token_id)

    def ask(self, question: Question, data: DataSpec) -> Prompt:
        """The text to classify, cut to max_length as in training."""
        text = alone(question)
        if not question.is_raw:
            text = fill_from(data.text or "", text, question.fields, "data.text")
        tokens = self.tokenizer(text, truncation=True, max_length=data.max_length)["input_ids"]
        if not tokens:
            raise InputError("has no token", "prompt")
        return Prompt(torch.tensor(tokens), "raw" if question.is_raw else "template")

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return {**super().collate(examples), "labels": torch.stack([example["labels"] for example in examples])}

    def answers(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor] | None:
        return outputs.logits.argmax(-1), batch["labels"]

    def confidences(self, outputs: Any, batch: Batch) -> Tensor | None:
        return outputs.logits.float().softmax(-1).amax(-1)

    def reply(self, logits: Tensor) -> Reply:
        """The answer to a user's text, by its logits [labels]: the likeliest label."""
        likely = self.likeliest(logits.softmax(-1))
        return Reply(likely[0].label, likely)

    def likeliest(self, probabilities: Tensor) -> list[Likelihood]:
        """The first few labels, the likeliest first."""
        found = probabilities.topk(min(_TOLD, len(self.labels)))
        return [
            Likelihood(self.labels[index], value)
            for value, index in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]
