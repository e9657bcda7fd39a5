"""Predicts a label for an image."""

from collections.abc import Collection, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from ..errors import InputError, Problems, RowFaults
from ..models import found, load_pretrained
from ..prepared_dataset import Example
from ..rows.row import Row
from ..rows.templates import column_value
from ..wire.specs import DataSpec
from .task import Batch, Progress, Task


class ImageClassification(Task):
    heads: ClassVar[tuple[str, ...]] = ("classifier",)

    @cached_property
    def processor(self) -> Any:
        """The model's own processor, by its preprocessor_config.json, with the portable Pillow backend."""
        with found(self.model):
            return AutoImageProcessor.from_pretrained(
                self.model.name_or_path, revision=self.model.revision, backend="pil", trust_remote_code=False
            )

    def check(self, data: DataSpec, problems: Problems) -> None:
        with problems.gathered("model.name_or_path"):
            _ = self.processor

    def file_columns(self, data: DataSpec) -> Collection[str] | None:
        return None if ":" in self.model.task else (data.image or "image",)

    def fingerprint(self) -> object:
        return self.processor.to_dict()

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        numbers = {label: number for number, label in enumerate(self.labels)}
        examples: list[Example] = []
        faults = RowFaults()
        for index, row in enumerate(rows):
            progress(index, len(rows))
            with faults.of(row.where, "data.image"):
                picture = _picture(row, data.image or "image")
                # Resized here and kept as bytes, a quarter of the size; collate rescales.
                pixels = self.processor(picture, do_rescale=False, do_normalize=False, return_tensors="pt")
                pixels = pixels["pixel_values"][0].to(torch.uint8)
                label = torch.tensor(numbers[self.label(row, data) or ""])
                examples.append({"pixel_values": pixels, "labels": label})
        faults.raise_any(len(rows))
        return examples

    def build_model(self, on_meta: bool = False) -> nn.Module:
        names = dict(enumerate(self.labels))
        config = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
        return load_pretrained(
            AutoModelForImageClassification,
            self.model,
            self.device,
            on_meta,
            self.modules_to_save,
            num_labels=len(self.labels),
            **config,
        )

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        pixels = torch.stack([example["pixel_values"] for example in examples]).float()
        if self.processor.do_rescale:
            pixels = pixels * self.processor.rescale_factor
        if self.processor.do_normalize:
            mean, std = (
                torch.tensor(each).view(-1, 1, 1) for each in (self.processor.image_mean, self.processor.image_std)
            )
            pixels = (pixels - mean) / std
        return {"pixel_values": pixels, "labels": torch.stack([example["labels"] for example in examples])}

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        logits, smoothing = outputs.logits.float(), self.label_smoothing
        return nn.functional.cross_entropy(logits, batch["labels"], reduction="none", label_smoothing=smoothing)

    def answers(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        return outputs.logits.argmax(-1), batch["labels"]

    def confidences(self, outputs: Any, batch: Batch) -> Tensor:
        return outputs.logits.float().softmax(-1).amax(-1)


def _picture(row: Row, name: str) -> Any:
    """An RGB image from a file's path, from bytes as in `datasets`, or from a decoded image."""
    from PIL import Image

    value = column_value(row, name, "data.image")
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    try:
        if isinstance(value, str):
            value = Image.open(Path(value))
        elif isinstance(value, bytes):
            value = Image.open(BytesIO(value))
        if isinstance(value, Image.Image):
            return value.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # everything that Pillow raises
        raise InputError(f"{row.where}: column {name!r} is not a readable image: {error}", "data.image") from error
    raise InputError(
        f"{row.where}: column {name!r} is a {type(value).__name__}; expected an image's path or its bytes",
        "data.image",
    )
