"""
What prelort asks of a kind of learning. The built-in tasks are made of it, and so is one's own, which a config names
as `model.task: module:Class`; `prelort new-task` writes one to begin with. Everything else is done for it: clients and
their partitions, nested truncations, the wire, evaluation at every tier, records.

A row is what the data has (columns by name); an example is what the task makes of it (tensors by name, of any shapes);
a batch is what it makes of several examples (tensors by name, whose first side is the examples).
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
from ..wire.messages import DataSpec, ModelSpec

Batch = Mapping[str, Tensor]
# How many rows are done, and of how many.
Progress = Callable[[int, int], None]


class Task:
    """One's own overrides what differs. The same object lives as long as its worker and keeps no state of training."""

    # What PEFT calls it in adapter_config.json; None is its plain model.
    peft_type: ClassVar[str | None] = None
    # Modules that are trained in full where the config names none, such as a new classifier's head.
    heads: ClassVar[tuple[str, ...]] = ()
    # Of a batch, what the model is not given.
    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(self, model: ModelSpec, device: torch.device) -> None:
        self.model = model
        self.device = device
        # Of the data, in the order of their numbers; set before build_model is called.
        self.labels: list[str] = []
        self.pad_token_id = 0
        # What the user should know of the data, though it can be used; encode adds to it.
        self.remarks: list[str] = []
        # Modules trained in full, which a checkpoint may lack.
        self.modules_to_save: list[str] = list(self.heads)

    # In the one worker that prepares the data.

    def read(self, path: str, split: str | None, data: DataSpec) -> Sequence[Row]:
        """The rows of a file, a folder or a dataset's name; of `data.path`, and of `data.eval_path` if there is one."""
        return read_rows(path, split, data.subset)

    def label(self, row: Row, data: DataSpec) -> str | None:
        """What the example is one of, if the task has labels: they are counted, and partitions may go by them."""
        return category(row, data.label, "data.label") if data.label else None

    def check(self, data: DataSpec, problems: Problems) -> None:
        """Adds what is wrong before any row is looked at, such as a tokenizer that cannot do what is asked of it."""

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        """An example of each row. `truncated` among its tensors says that it was cut; it is counted, and not kept."""
        raise NotImplementedError(f"{type(self).__name__} has no encode(rows, data, progress)")

    def pack(self, examples: Sequence[Example], data: DataSpec, is_training: bool) -> list[Example]:
        """With `data.packing`: one client's examples, or those held out, as fewer, fuller ones."""
        raise InputError(f"{type(self).__name__} does not pack examples", "data.packing")

    def length(self, example: Example) -> int:
        """Of its padding: batches of like length have little of it."""
        tokens = example.get("input_ids")
        return 0 if tokens is None else len(tokens)

    def file_columns(self, data: DataSpec) -> Collection[str] | None:
        """
        Columns whose cells name files that examples are made of, such as pictures: when one of those changes, the data
        has changed. None where any may: a cell that is the path of a file counts.
        """
        return None

    def fingerprint(self) -> object:
        """What decides an example besides its row and the data section, as JSON: a tokenizer's hash."""
        return None

    # In every worker.

    def build_model(self) -> nn.Module:
        """The frozen base model, the same in every worker: PyTorch's seed is set."""
        raise NotImplementedError(f"{type(self).__name__} has no build_model()")

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Stacked; one-dimensional tensors of different lengths are padded on the right with zeros."""
        batch = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            even = all(value.shape == values[0].shape for value in values)
            batch[name] = torch.stack(values) if even else nn.utils.rnn.pad_sequence(values, batch_first=True)
        return batch

    def count_targets(self, batch: Batch) -> int:
        """What a loss is the mean over: the examples, by default; answer tokens, for a language model."""
        return len(next(iter(batch.values())))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return model(**{name: value for name, value in batch.items() if name not in self.targets})

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Losses in the order of the examples, as many for each; their sum over count_targets is what is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has no losses(outputs, batch)")

    def answers(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Labels that were answered and true ones, both [examples], for accuracy and macro-F1; None without labels."""
        return None

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Metrics of one's own by name, a number for each example [examples]; their mean is reported at every tier."""
        return {}
