"""Base classes of text tasks: a tokenizer, and batches of tokens padded on the right."""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import Problems
from ..files.file_hashes import file_sha256
from ..models import load_tokenizer
from ..prepared_dataset import Example
from ..wire.specs import DataSpec
from .task import Batch, Task

# Target without a loss.
IGNORED = -100
# Rows tokenised at a time.
BATCH = 512


class TextTask(Task):
    targets = ("labels",)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.model)

    def check(self, data: DataSpec, problems: Problems) -> None:
        with problems.gathered("model.name_or_path"):
            self.pad_token_id = int(self.tokenizer.pad_token_id)  # pyright: ignore[reportArgumentType] - loaded with one

    def file_columns(self, data: DataSpec) -> Collection[str] | None:
        return None if ":" in self.model.task else ()

    def fingerprint(self) -> object:
        """Hash of the saved tokenizer, independent of the folder it was loaded from."""
        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return sha256("".join(f"{path.name}:{file_sha256(path)}\n" for path in files).encode()).hexdigest()

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        tokens = [example["input_ids"] for example in examples]
        input_ids = pad(tokens, self.pad_token_id)
        lengths = torch.tensor([len(each) for each in tokens])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths.unsqueeze(1)).long()
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Cross-entropy of each of the batch's targets; 0 for ignored ones."""
        logits, targets = self.judged(outputs, batch)
        smoothing = self.label_smoothing
        return torch.nn.functional.cross_entropy(
            logits, targets, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing
        )

    def judged(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [targets, classes] in float32 and the true classes [targets]."""
        logits: Tensor = outputs.logits.float()
        return logits.flatten(0, -2), batch["labels"].flatten()

    def count_targets(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORED).sum())


class GenerativeTask(TextTask):
    """A task whose model generates text, which is scored by ROUGE-L and by `score`."""

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """
        token_accuracy: the share of an example's targets that the model finds most likely, each after the true tokens
        before it.
        """
        logits, targets = self.judged(outputs, batch)
        hits, asked = (
            each.view(len(batch["labels"]), -1).sum(1) for each in (logits.argmax(-1) == targets, targets != IGNORED)
        )
        return {"token_accuracy": hits / asked.clamp(min=1)}

    def spelled(self, example: Example) -> Tensor:
        """The example's targets, as tokens; those of `reference` unless there are others."""
        return self.reference(example)

    def spelled_bytes(self, example: Example) -> int:
        """The UTF-8 bytes of the text that the targets spell, for bits per byte. Special tokens spell nothing."""
        tokens = self.spelled(example).tolist()
        text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return len(str(text).encode("utf-8", "replace"))

    def prompt(self, example: Example) -> Tensor:
        """The tokens from which the model has to generate `reference`."""
        raise NotImplementedError

    def reference(self, example: Example) -> Tensor:
        raise NotImplementedError

    def score(self, answer: str, reference: str) -> Mapping[str, float]:
        """Metrics of a generated answer against the reference, by name; reports their means."""
        return {"exact_match": float(answer.strip() == reference.strip())}


def pad(values: Sequence[Tensor], value: int) -> Tensor:
    """One-dimensional tensors as rows of int64, padded on the right to the longest."""
    return torch.nn.utils.rnn.pad_sequence(
        [each.long() for each in values], batch_first=True, padding_value=float(value)
    )


def set_tokens(base: PreTrainedModel, pad_token_id: int) -> PreTrainedModel:
    settings = base.config.get_text_config()
    # A decoder's classifier reads the last token that is not padding.
    settings.pad_token_id = pad_token_id
    settings.use_cache = False  # training has no use for it; generation turns it on
    return base


def describe(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
