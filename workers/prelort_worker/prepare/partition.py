"""
Partitions examples over clients. Plain NumPy: flwr-datasets, which has the standard partitioners, needs Python 3.11,
while this package supports 3.10, and datasets below 5.
"""

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rows.row import Row
from ..rows.templates import column_text
from ..wire.specs import PartitionSpec

_T = TypeVar("_T", int, float)

Indices = NDArray[np.int64]


def partition_iid(n: int, clients: int, rng: np.random.Generator) -> list[Indices]:
    return [np.sort(part) for part in np.array_split(rng.permutation(n), clients)]


def partition_dirichlet(
    values: Sequence[str], clients: int, alpha: float, minimum: int, rng: np.random.Generator
) -> list[Indices]:
    """
    Distributes each value's examples over the clients in shares drawn from Dirichlet(alpha) (Hsu et al., arXiv
    1909.06335; Li et al., arXiv 2102.02079). They redraw everything until every client has its minimum, which may never
    happen; here a single draw is made, and clients below the minimum are topped up.
    """
    dealt, owners = [np.array([], np.int64)], [np.array([], np.int64)]
    for group in indices_by_value(values).values():
        shares = rng.dirichlet(np.full(clients, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(group)).astype(int)
        dealt.append(rng.permutation(group))
        owners.append(np.repeat(np.arange(clients), np.diff(cuts, prepend=0, append=len(group))))
    return top_up(_by_owner(np.concatenate(dealt), np.concatenate(owners), clients), minimum, rng)


def _by_owner(indices: Indices, owners: Indices, clients: int) -> list[Indices]:
    """Each client's indices, in the order given."""
    ends = np.cumsum(np.bincount(owners, minlength=clients))
    return np.split(indices[np.argsort(owners, kind="stable")], ends[:-1])


def partition_by_size(n: int, clients: int, alpha: float, minimum: int, rng: np.random.Generator) -> list[Indices]:
    """Quantity skew (Li et al., arXiv 2102.02079): sizes from Dirichlet(alpha), topped up."""
    cuts = np.floor(np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * n).astype(int)
    return top_up(np.split(rng.permutation(n), cuts), minimum, rng)


def top_up(parts: list[Indices], minimum: int, rng: np.random.Generator) -> list[Indices]:
    """
    Each client with fewer than `minimum` examples receives random examples, one at a time, from the client that has
    the most at that moment (the first of equals). There must be `minimum` for each. Draws no random numbers if no
    client is below the minimum.
    """
    if min(map(len, parts)) >= minimum:
        return [np.sort(part) for part in parts]
    held = [rng.permutation(part).tolist() for part in parts]
    largest = [(-len(part), client) for client, part in enumerate(held) if len(part) > minimum]
    heapify(largest)
    for part in held:
        while len(part) < minimum:
            size, giver = largest[0]
            part.append(held[giver].pop())
            # While one client is below the minimum another is above it, so clients at the minimum may stay in the heap.
            heapreplace(largest, (size + 1, giver))
    return [np.array(sorted(part), np.int64) for part in held]


def partition_by_shares(n: int, shares: list[float], minimum: int, rng: np.random.Generator) -> list[Indices]:
    """Sizes in proportion to `shares`, each within one example of it."""
    ends = np.rint(np.cumsum(shares) / np.sum(shares) * n).astype(int)
    sizes = np.diff(ends, prepend=0)
    if sizes.min() < minimum:
        client = int(sizes.argmin())
        raise InputError(
            f"the share {shares[client]:g} of client {client + 1} of {len(shares)} gives it "
            f"{sizes[client]} of {n} examples, fewer than min_examples ({minimum}); raise the share or max_examples, "
            "or lower min_examples",
            "data.partition.shares",
        )
    return [np.sort(part) for part in np.split(rng.permutation(n), ends[:-1])]


def partition_pathological(
    values: Sequence[str], clients: int, per_client: int, rng: np.random.Generator
) -> list[Indices]:
    """
    Each client holds a fixed number of values (McMahan et al., arXiv 1602.05629; Li et al., arXiv 2102.02079,
    "#C = k"). Here each client takes the values that the fewest clients hold so far, ties at random, so that the
    numbers of clients per value differ by at most one; they share its examples evenly.
    """
    groups = indices_by_value(values)
    distinct = list(groups)
    if per_client > len(distinct):
        raise InputError(
            f"{per_client} values for each client, but the training examples have "
            f"{len(distinct)}; use at most that many",
            "data.partition.per_client",
        )
    if clients * per_client < len(distinct):
        raise InputError(
            f"{clients} clients of {per_client} values each cannot hold the {len(distinct)} "
            "values of the column; raise clients or per_client",
            "data.partition.per_client",
        )
    holders: list[list[int]] = [[] for _ in distinct]
    for client in range(clients):
        ties = rng.random(len(distinct))
        scarcest = sorted((len(own), tie, value) for value, (own, tie) in enumerate(zip(holders, ties, strict=True)))
        for _, _, value in scarcest[:per_client]:
            holders[value].append(client)
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for value, group, its_clients in zip(distinct, groups.values(), holders, strict=True):
        if len(group) < len(its_clients):
            raise InputError(
                f"{len(its_clients)} clients should hold the value {value!r}, which has only "
                f"{len(group)} training examples; lower clients or per_client, or raise max_examples",
                "data.partition",
            )
        for client, indices in zip(its_clients, np.array_split(rng.permutation(group), len(its_clients)), strict=True):
            parts[client].append(indices)
    return [np.sort(np.concatenate(part)) for part in parts]


def partition_by_value(values: Sequence[str], owned: list[str]) -> list[Indices]:
    """Client k holds the examples of the k-th owned value."""
    groups = indices_by_value(values)
    return [groups.get(value, np.array([], np.int64)) for value in owned]


def indices_by_value(values: Sequence[str]) -> dict[str, Indices]:
    """
    The ascending indices of each distinct value, sorted by value. Values are compared as Python strings: NumPy's drop
    trailing NULs, and pad every value to the longest.
    """
    indices: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        indices.setdefault(value, []).append(index)
    return {value: np.array(indices[value], np.int64) for value in sorted(indices)}


def values_of(spec: PartitionSpec, rows: Sequence[Row]) -> list[str]:
    """
    The value of the partition's column in each row, as text; empty if the partition uses none. Numbers are written as
    in JSON: 1 and "1" are the same value, 1.0 and true are others.
    """
    if spec.by is None:
        return [""] * len(rows)
    if spec.name == "files" and spec.by not in rows[0].columns:
        raise InputError(
            f"{rows[0].where}: does not come from a folder of files, as the partition `files` requires", "data.path"
        )
    return [column_text(row, spec.by, "data.partition.by") for row in rows]


def owned_values(spec: PartitionSpec, values: Sequence[str], clients: int | None) -> list[str] | None:
    """
    The value each client stands for, in the partitions `value` (the most frequent first, ties by text) and `files` (by
    name). All values, or as many as there are clients. Computed over the whole data, so that the clients do not depend
    on the sample; examples of other values are unused.
    """
    if spec.name not in ("value", "files"):
        return None
    counts = Counter(values)
    if clients is not None and clients > len(counts):
        told = "file" if spec.name == "files" else "value of data.partition.by"
        raise InputError(
            f"{clients} clients of one {told} each, but the data has {len(counts)}; "
            "use at most that many clients, or leave out data.clients",
            "data.clients",
        )
    ranked = sorted(counts) if spec.name == "files" else sorted(counts, key=lambda value: (-counts[value], value))
    return ranked[:clients]


def hold_out(parts: list[Indices], count: int, rng: np.random.Generator) -> list[tuple[Indices, Indices]]:
    """Each client's training indices, and `count` held-out ones, both ascending."""
    if count == 0:
        return [(part, part[:0]) for part in parts]
    chosen = [np.sort(rng.permutation(len(part))[:count]) for part in parts]
    return [(np.delete(part, own), part[own]) for part, own in zip(parts, chosen, strict=True)]


def partition(
    spec: PartitionSpec,
    values: Sequence[str],
    n: int,
    clients: int | None,
    rng: np.random.Generator,
    owned: list[str] | None = None,
) -> list[Indices]:
    """
    Each client's ascending indices into the n training examples. `values`: their `values_of`; `owned`: the
    `owned_values` of the whole data.
    """
    if spec.name in ("value", "files"):
        return partition_by_value(values, owned or owned_values(spec, values, clients) or [])
    if clients is None:
        clients = len(spec.shares or [])
    if clients == 0:
        raise InputError(
            f"is required: the partition {spec.name} does not determine how many there are", "data.clients"
        )
    if n < clients * spec.min_examples:
        raise InputError(
            f"{clients} clients of at least {spec.min_examples} examples each need "
            f"{clients * spec.min_examples} training examples, but there are {n}",
            "data.clients",
        )
    if spec.name == "iid":
        return partition_iid(n, clients, rng)
    if spec.name == "pathological":
        return partition_pathological(values, clients, _needed(spec, "per_client", spec.per_client), rng)
    if spec.name == "size" and spec.shares is not None:
        if len(spec.shares) != clients:
            raise InputError(
                f"expected one for each of the {clients} data.clients, got {len(spec.shares)}", "data.partition.shares"
            )
        return partition_by_shares(n, spec.shares, spec.min_examples, rng)
    alpha = _needed(spec, "alpha", spec.alpha)
    if spec.name == "size":
        return partition_by_size(n, clients, alpha, spec.min_examples, rng)
    return partition_dirichlet(values, clients, alpha, spec.min_examples, rng)


def _needed(spec: PartitionSpec, option: str, value: _T | None) -> _T:
    if value is None:
        raise InputError(f"is required by the partition {spec.name}", f"data.partition.{option}")
    return value
