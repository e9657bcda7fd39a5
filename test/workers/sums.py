"""The values of an evaluation's examples as sums, as tests compare them."""

import math
from dataclasses import dataclass

import torch
from prelort_worker.training.example_values import ExampleValues
from prelort_worker.wire.frames import Payload
from prelort_worker.wire.messages import Evaluated


@dataclass(frozen=True)
class LabelCounts:
    """Per label: true positives, predictions, and occurrences."""

    hits: list[int]
    predicted: list[int]
    actual: list[int]


@dataclass(frozen=True)
class Sums:
    r: int
    loss_sum: float | None
    n_tokens: int
    n_examples: int
    labels: LabelCounts | None
    rouge_l_sum: float | None
    metrics: dict[str, float | None]


def sums_of(r: int, values: ExampleValues) -> Sums:
    columns = values.columns
    rouge = columns.get("rouge_l")
    return Sums(
        r,
        _total(columns["loss"]),
        int(columns["targets"].sum()),
        len(columns["loss"]),
        _labels(columns["predicted"], columns["actual"]) if "predicted" in columns else None,
        None if rouge is None else _total(rouge),
        {name: _total(each) for name, each in values.metrics.items()},
    )


def values_of(evaluated: Evaluated, payload: Payload, ranks: list[int]) -> list[ExampleValues]:
    """At each rank, from what is sent."""
    tensor = payload["examples"]
    assert tensor.dtype == "F64" and list(payload) == ["examples"]
    table = torch.frombuffer(bytearray(tensor.data), dtype=torch.float64).reshape(tensor.shape)
    assert len(table) == len(evaluated.columns) + len(evaluated.metrics)
    by_rank = [list(part) for part in zip(*(row.chunk(len(ranks)) for row in table), strict=True)]
    n = len(evaluated.columns)
    return [
        ExampleValues(
            dict(zip(evaluated.columns, rows[:n], strict=True)), dict(zip(evaluated.metrics, rows[n:], strict=True))
        )
        for rows in by_rank
    ]


def sums_at(ranks: list[int], answer: tuple[Evaluated, Payload]) -> list[Sums]:
    return [sums_of(r, values) for r, values in zip(ranks, values_of(*answer, ranks), strict=True)]


def _total(values: torch.Tensor) -> float | None:
    total = values.sum().item()
    return total if math.isfinite(total) else None


def _labels(predicted: torch.Tensor, actual: torch.Tensor) -> LabelCounts:
    numbers = [each.long() for each in (actual[predicted == actual], predicted, actual)]
    size = int(max(predicted.max(), actual.max())) + 1
    return LabelCounts(*(torch.bincount(each, minlength=max(size, 3)).tolist() for each in numbers))
