"""Counts what clients train on, and lists what is known of them for the wire."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..client_table import Numbers, Tally, client_name, tally, values_of
from ..errors import InputError
from ..prepared_dataset import PreparedDataset
from ..wire.messages import ClientColumns, TallyColumns

# Limits of a client's mix, and of all clients together.
_VALUES, _ALL_VALUES, _VALUE_LENGTH = 60, 4_000_000, 60
_REST = "others"


def sum_parts(numbers: Numbers, sizes: Numbers) -> Numbers:
    """The sum of each part of the numbers; `sizes`: how many each part has."""
    sums, ends = np.concatenate([[0], np.cumsum(numbers)]), np.cumsum(sizes)
    return sums[ends] - sums[ends - sizes]


def tally_labels(labels: Sequence[str], held: Iterable[str], owners: Numbers, clients: int) -> Tally:
    """`held`: the labels of all training examples; `owners`: the index of each one's client."""
    numbers = {label: number for number, label in enumerate(labels)}
    keys = np.fromiter((numbers.get(label, -1) for label in held), np.int64, len(owners))
    pairs, counts = np.unique((owners * len(labels) + keys)[keys >= 0], return_counts=True)
    of, kept = np.divmod(pairs, max(1, len(labels)))
    return tally(np.bincount(of, minlength=clients), kept, counts)


def tally_mix(held: Iterable[str], owners: Numbers, clients: int) -> tuple[Tally, list[str]]:
    """
    Counts the values, shortened, that each client's training examples hold, and returns the values. The most frequent
    come first, ties in the order of the examples; the rest of a long list is counted as `others`.
    """
    numbers: dict[str, int] = {}
    codes = (numbers.setdefault(value[:_VALUE_LENGTH], len(numbers)) for value in held)
    keys = np.fromiter(codes, np.int64, len(owners))
    n_values = max(1, len(numbers))
    pairs, first, counts = np.unique(owners * n_values + keys, return_index=True, return_counts=True)
    of, keys = np.divmod(pairs, n_values)
    order = np.lexsort((first, -counts, of))
    of, keys, counts = of[order], keys[order], counts[order]
    sizes = np.bincount(of, minlength=clients)
    # A long list keeps all but its last places, and one place for the rest.
    most = min(_VALUES, max(1, _ALL_VALUES // max(1, clients)))
    place = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_rest = (sizes[of] > most) & (place >= most - 1)
    if not is_rest.any():
        return tally(sizes, keys, counts), list(numbers)
    rest = np.bincount(of[is_rest], weights=counts[is_rest], minlength=clients).astype(np.int64)
    counts, keys = np.where(is_rest, rest[of], counts), np.where(is_rest, len(numbers), keys)
    is_kept = place < most
    return tally(np.minimum(sizes, most), keys[is_kept], counts[is_kept]), [*numbers, _REST]


def client_columns(dataset: PreparedDataset) -> ClientColumns:
    """What `prepared` tells of the clients."""
    table, sizes = dataset.table, dataset.sizes()
    count = dataset.n_clients
    return ClientColumns(
        ids=[client_name(index, count) for index in range(count)],
        n=_column(sizes[1::2]),
        n_eval=_column(sizes[2::2]),
        n_tokens=_column(table.n_tokens.numpy()),
        n_truncated=_column(table.n_truncated.numpy()),
        label_counts=_tally_columns(table.label_counts),
        mix=_tally_columns(table.mix),
        values=values_of(table),
    )


def _tally_columns(counted: Tally) -> TallyColumns:
    return TallyColumns(*(_column(each.numpy()) for each in (counted.sizes, counted.keys, counted.counts)))


def _column(numbers: Numbers) -> bytes:
    """Unsigned 32-bit numbers, little-endian."""
    if len(numbers) and int(numbers.max()) >= 2**32:
        raise InputError(f"a client has {int(numbers.max())} tokens; expected fewer than 2^32", "data.clients")
    return numbers.astype("<u4").tobytes()
