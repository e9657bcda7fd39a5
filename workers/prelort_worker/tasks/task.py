"""
The interface of a task. Built-in tasks implement it, and so do custom ones, which a config names as
`model.task: module:Class`; `prelort new-task` writes one to start from. Prelort does everything else: clients and their
partitions, nested truncations, the wire, evaluation at every tier, records.

A row is what the data has (columns by name); an example is what the task makes of it (tensors by name, of any shape);
a batch is what it makes of several examples (tensors by name, whose first dimension is the examples).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError, Problems
from ..prepared_dataset import Example
from ..rows.read import read_rows
from ..rows.row import Row
from ..rows.templates import category
from ..wire.specs import DataSpec, ModelSpec
from .question import Prompt, Question

Batch = Mapping[str, Tensor]
# Rows done, and rows in total.
Progress = Callable[[int, int], None]


class Task:
    """Override what differs. One object lives as long as its worker."""

    # PEFT's task type for adapter_config.json; None for a plain PeftModel.
    peft_type: ClassVar[str | None] = None
    # Modules trained in full if the config names none, such as a new classifier's head.
    heads: ClassVar[tuple[str, ...]] = ()
    # The fewest labels that `data.label` may have.
    fewest_labels: ClassVar[int] = 2
    # Names in a batch that are not passed to the model.
    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(self, model: ModelSpec, device: torch.device) -> None:
        self.model = model
        self.device = device
        # The data's labels, in the order of their ids; set before build_model is called.
        self.labels: list[str] = []
        self.pad_token_id = 0
        # Warnings about data that can be used all the same; encode adds to them.
        self.remarks: list[str] = []
        self._label_smoothing, self.smoothing_was_read = 0.0, False
        # Modules trained in full; a checkpoint may lack them.
        self.modules_to_save: list[str] = list(self.heads)

    @property
    def label_smoothing(self) -> float:
        """Share of each target that `losses` spreads over all classes; above 0 only while a client trains."""
        self.smoothing_was_read = True
        return self._label_smoothing

    def smooth(self, share: float) -> None:
        """Sets label_smoothing; not for tasks."""
        self._label_smoothing, self.smoothing_was_read = share, False

    # Called in the worker that prepares the data.

    def read(self, path: str, split: str | None, data: DataSpec) -> Sequence[Row]:
        """The rows of a file, a folder or a dataset's name; of `data.path`, and of `data.eval_path` if there is one."""
        return read_rows(path, split, data.subset)

    def label(self, row: Row, data: DataSpec) -> str | None:
        """The example's label, if the task has labels: they are counted in each client's data."""
        return category(row, data.label, "data.label") if data.label else None

    def labels_of(self, row: Row, data: DataSpec) -> tuple[str, ...]:
        """All labels of an example, each once; of a task whose examples may have several."""
        label = self.label(row, data)
        return () if label is None else (label,)

    def check(self, data: DataSpec, problems: Problems) -> None:
        """Adds problems that are known before reading rows, such as a tokenizer without a required feature."""

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        """One example per row. The tensor `truncated` marks examples that were cut; it is counted, then dropped."""
        raise NotImplementedError(f"{type(self).__name__} has no encode(rows, data, progress)")

    def pack(self, examples: Sequence[Example], data: DataSpec, is_training: bool) -> list[Example]:
        """With `data.packing`: packs one client's examples, or the held-out ones, into fewer, fuller ones."""
        raise InputError(f"{type(self).__name__} does not pack examples", "data.packing")

    def length(self, example: Example) -> int:
        """The example's length before padding, by which batches are grouped."""
        tokens = example.get("input_ids")
        return 0 if tokens is None else len(tokens)

    def file_columns(self, data: DataSpec) -> Collection[str] | None:
        """
        Columns whose cells name files that examples are made from, such as images: when such a file changes, the data
        has changed. None if any column may: then every cell that is the path of a file counts.
        """
        return None

    def fingerprint(self) -> object:
        """What determines an example besides its row and the data section, as JSON: a tokenizer's hash."""
        return None

    # Called in every worker.

    def build_model(self) -> nn.Module:
        """The frozen base model, the same in every worker, since PyTorch's seed is set."""
        raise NotImplementedError(f"{type(self).__name__} has no build_model()")

    def ask(self, question: Question, data: DataSpec) -> Prompt:
        """A user's question as the model's prompt, in the form in which the task's examples have theirs."""
        raise InputError(f"{self.model.task} cannot be asked: it answers no text", "model.task")

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Stacked; one-dimensional tensors of different lengths are padded on the right with zeros."""
        batch = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            even = all(value.shape == values[0].shape for value in values)
            batch[name] = torch.stack(values) if even else nn.utils.rnn.pad_sequence(values, batch_first=True)
        return batch

    def count_targets(self, batch: Batch) -> int:
        """
        The number of targets a loss averages over: examples by default, answer tokens for a language model. Of a batch,
        the sum over its examples.
        """
        return len(next(iter(batch.values())))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return model(**{name: value for name, value in batch.items() if name not in self.targets})

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Losses in the order of the examples, equally many for each; minimises their sum over count_targets."""
        raise NotImplementedError(f"{type(self).__name__} has no losses(outputs, batch)")

    def answers(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Predicted and true labels, both [examples], for accuracy and macro-F1; None without labels."""
        return None

    def confidences(self, outputs: Any, batch: Batch) -> Tensor | None:
        """The probability [examples] of each predicted label, for the calibration error; None if it is not known."""
        return None

    def positives(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor] | None:
        """
        Of each example [examples] how many of its labels, entities or the like were rightly predicted, how many were
        predicted, and how many it has: for precision, recall and F1 over all examples (micro). None without such.
        """
        return None

    def estimates(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Predicted and true numbers, both [examples], for RMSE, MAE, R² and Pearson's r; None without numbers."""
        return None

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Custom metrics by name, one number per example [examples]; their mean is reported at every tier."""
        return {}
