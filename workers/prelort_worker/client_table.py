"""What is known of all clients, in columns: a million clients are a few tensors, not a million objects."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Counts by key, of every client: the numbers of pairs of each, then all pairs."""

    sizes: Tensor
    keys: Tensor
    counts: Tensor


@dataclass(frozen=True)
class ClientTable:
    """Of the training examples. An item for each client, besides the pairs of the tallies and the values."""

    n_tokens: Tensor
    n_truncated: Tensor
    # By label, ascending; empty without labels.
    label_counts: Tally
    # By value of the partition's column, or by label; the most frequent first.
    mix: Tally
    # The values as JSON in UTF-8. Only the `prepare` task reads them.
    values: Tensor


def make_table(
    n_tokens: Numbers, n_truncated: Numbers, label_counts: Tally, mix: Tally, values: Sequence[str]
) -> ClientTable:
    text = json.dumps(list(values)).encode()
    packed = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return ClientTable(_column(n_tokens), _column(n_truncated), label_counts, mix, packed)


def tally(sizes: Numbers, keys: Numbers, counts: Numbers) -> Tally:
    return Tally(_column(sizes), _column(keys), _column(counts))


def no_table(clients: int) -> ClientTable:
    """The table of clients of which nothing is known."""
    zeros, none = np.zeros(clients, np.int64), np.zeros(0, np.int64)
    return make_table(zeros, zeros, tally(zeros, none, none), tally(zeros, none, none), [])


def _column(numbers: Numbers) -> Tensor:
    """A copy without gaps, since a file of tensors needs each to have memory of its own."""
    column = torch.empty(len(numbers), dtype=torch.int64)
    column.numpy()[:] = numbers
    return column


def values_of(table: ClientTable) -> list[str]:
    return json.loads(table.values.numpy().tobytes())


def to_tensors(table: ClientTable) -> dict[str, Tensor]:
    """Named with leading dots, unlike the fields of examples."""
    return {
        ".n_tokens": table.n_tokens,
        ".n_truncated": table.n_truncated,
        ".values": table.values,
        **{f".label_counts.{name}": value for name, value in vars(table.label_counts).items()},
        **{f".mix.{name}": value for name, value in vars(table.mix).items()},
    }


def take_tensors(tensors: dict[str, Tensor]) -> ClientTable:
    """Removes the table from the tensors of a file."""

    def take(name: str) -> Tally:
        return Tally(*(tensors.pop(f".{name}.{part}") for part in ("sizes", "keys", "counts")))

    return ClientTable(
        n_tokens=tensors.pop(".n_tokens"),
        n_truncated=tensors.pop(".n_truncated"),
        label_counts=take("label_counts"),
        mix=take("mix"),
        values=tensors.pop(".values"),
    )


def client_name(index: int, count: int) -> str:
    return f"c{index:0{max(2, len(str(count - 1)))}d}"


def client_index(name: str, count: int) -> int | None:
    """The index of the client of that name; None if there is none."""
    digits = name[1:]
    index = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else count
    return index if index < count and client_name(index, count) == name else None
