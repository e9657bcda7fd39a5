"""What an evaluation knows of each example, and how it travels: as the tensor `examples` of `evaluated`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ..errors import InputError
from ..wire.frames import Payload
from ..wire.frames import Tensor as WireTensor
from ..wire.messages import ExampleColumn

_NAN = float("nan")
# Of every tier, from the columns.
_OF_HOOKS = {
    "answers() and confidences()": ("accuracy", "macro_f1", "ece"),
    "positives()": ("precision", "recall", "f1"),
    "estimates()": ("rmse", "mae", "r2", "pearson"),
}
_COMPUTED = (
    "loss",
    "perplexity",
    "bits_per_byte",
    "rouge_l",
    *(name for names in _OF_HOOKS.values() for name in names),
)


@dataclass(frozen=True)
class ExampleValues:
    """At one rank, in the shard's order; float64."""

    columns: Mapping[ExampleColumn, Tensor]
    # The task's own, by name.
    metrics: Mapping[str, Tensor]

    def extended(self, columns: Mapping[ExampleColumn, Tensor], metrics: Mapping[str, Tensor]) -> "ExampleValues":
        return ExampleValues({**self.columns, **columns}, {**self.metrics, **metrics})


class Kept:
    """Collects values of examples, batch by batch, at their places in the shard."""

    def __init__(self, n_examples: int) -> None:
        self._n_examples = n_examples
        self._columns: dict[ExampleColumn, Tensor] = {}
        self._metrics: dict[str, Tensor] = {}

    def column(self, name: ExampleColumn, places: Sequence[int], values: Tensor) -> None:
        _put(self._columns.setdefault(name, self._empty()), name, places, values)

    def metric(self, name: str, places: Sequence[int], values: Tensor) -> None:
        if name in _COMPUTED:
            raise InputError(
                f"metrics(): expected names other than {', '.join(_COMPUTED)}, which prelort computes, got {name}; "
                + "; ".join(f"{', '.join(names)} are those of {hook}" for hook, names in _OF_HOOKS.items()),
                "model.task",
            )
        _put(self._metrics.setdefault(name, self._empty()), f"metric {name}", places, values)

    def values(self) -> ExampleValues:
        return ExampleValues(self._columns, self._metrics)

    def _empty(self) -> Tensor:
        return torch.full((self._n_examples,), _NAN, dtype=torch.float64)


def _put(column: Tensor, what: str, places: Sequence[int], values: Tensor) -> None:
    if values.shape != (len(places),):
        raise InputError(
            f"{what}: expected a number for each of {len(places)} examples, got shape {list(values.shape)}",
            "model.task",
        )
    column[torch.tensor(list(places), dtype=torch.int64)] = values.detach().cpu().double()


def to_wire(tiers: Sequence[ExampleValues]) -> tuple[list[ExampleColumn], list[str], Payload]:
    """The names of the columns, those of the task's own metrics, and the tensor of all ranks."""
    columns: list[ExampleColumn] = [name for name in _ORDER if name in tiers[0].columns]
    metrics = list(tiers[0].metrics)
    rows = [torch.cat([tier.columns[name] for tier in tiers]) for name in columns]
    rows += [torch.cat([tier.metrics[name] for tier in tiers]) for name in metrics]
    table = torch.stack(rows)
    return (
        columns,
        metrics,
        {"examples": WireTensor(tuple(table.shape), table.numpy().reshape(-1).view("u1").data, "F64")},
    )


_ORDER: tuple[ExampleColumn, ...] = get_args(ExampleColumn)
