"""
Which client holds which example. Plain NumPy: flwr-datasets, which has the standard partitioners, needs
Python 3.11 and this package runs on 3.10; it also wants datasets below 5.
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
from ..wire.messages import PartitionSpec

_T = TypeVar("_T", int, float)

Places = NDArray[np.int64]


def partition_iid(n: int, clients: int, rng: np.random.Generator) -> list[Places]:
    return [np.sort(part) for part in np.array_split(rng.permutation(n), clients)]


def partition_dirichlet(
    values: Sequence[str], clients: int, alpha: float, minimum: int, rng: np.random.Generator
) -> list[Places]:
    """
    Spreads each value's examples over the clients in shares drawn from Dirichlet(alpha) (Hsu et al., arXiv 1909.06335;
    Li et al., arXiv 2102.02079). They draw everything again until every client has its minimum, which may never come
    about; here clients that the one draw leaves short are topped up.
    """
    parts: list[list[Places]] = [[] for _ in range(clients)]
    for group in places_by_value(values).values():
        shares = rng.dirichlet(np.full(clients, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(group)).astype(int)
        for part, places in zip(parts, np.split(rng.permutation(group), cuts), strict=True):
            part.append(places)
    return top_up([np.concatenate(part) for part in parts], minimum, rng)


def partition_by_size(n: int, clients: int, alpha: float, minimum: int, rng: np.random.Generator) -> list[Places]:
    """Quantity skew (Li et al., arXiv 2102.02079): sizes from Dirichlet(alpha); clients left short are topped up."""
    cuts = np.floor(np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * n).astype(int)
    return top_up(np.split(rng.permutation(n), cuts), minimum, rng)


def top_up(parts: list[Places], minimum: int, rng: np.random.Generator) -> list[Places]:
    """
    Each client with fewer than `minimum` examples gets, one at a time, a random one of whichever client then has the
    most (of equals the first). There must be `minimum` for each. Draws nothing where nobody is short.
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
            # Someone is short, so somebody has more than the minimum: whoever is down to it may stay in the heap.
            heapreplace(largest, (size + 1, giver))
    return [np.array(sorted(part), np.int64) for part in held]


def partition_by_shares(n: int, shares: list[float], minimum: int, rng: np.random.Generator) -> list[Places]:
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
) -> list[Places]:
    """
    Each client holds so many distinct values (McMahan et al., arXiv 1602.05629; Li et al., arXiv 2102.02079, "#C = k").
    Ours: every client takes the values that the fewest before it took, ties at random, so that each value has as many
    clients as any other, or one more; its examples are split evenly among them.
    """
    groups = places_by_value(values)
    distinct = list(groups)
    if per_client > len(distinct):
        raise InputError(
            f"{per_client} values for each client, and the training examples have "
            f"{len(distinct)}; take as many or fewer",
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
    parts: list[list[Places]] = [[] for _ in range(clients)]
    for value, group, its_clients in zip(distinct, groups.values(), holders, strict=True):
        if len(group) < len(its_clients):
            raise InputError(
                f"{len(its_clients)} clients are to hold the value {value!r}, of which there are "
                f"{len(group)} training examples; lower clients or per_client, or raise max_examples",
                "data.partition",
            )
        for client, places in zip(its_clients, np.array_split(rng.permutation(group), len(its_clients)), strict=True):
            parts[client].append(places)
    return [np.sort(np.concatenate(part)) for part in parts]


def partition_by_value(values: Sequence[str], owned: list[str]) -> list[Places]:
    """Client k holds the examples of the k-th owned value."""
    groups = places_by_value(values)
    return [groups.get(value, np.array([], np.int64)) for value in owned]


def places_by_value(values: Sequence[str]) -> dict[str, Places]:
    """
    Where each distinct value stands, ascending; the values in order. Values are compared as Python strings: NumPy's
    would drop trailing NULs, and take as much memory for every value as for the longest.
    """
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return {value: np.array(places[value], np.int64) for value in sorted(places)}


def values_of(spec: PartitionSpec, rows: Sequence[Row]) -> list[str]:
    """
    Of each row the value that the partition goes by, as text; empty where it goes by none. Numbers are written as in
    JSON: 1 and "1" are one value, 1.0 and true are others.
    """
    if spec.by is None:
        return [""] * len(rows)
    if spec.name == "files" and spec.by not in rows[0].columns:
        raise InputError(f"{rows[0].where}: is not of a folder of files, which the partition files needs", "data.path")
    return [column_text(row, spec.by, "data.partition.by") for row in rows]


def owned_values(spec: PartitionSpec, values: Sequence[str], clients: int | None) -> list[str] | None:
    """
    The value that each client stands for, if the partition is of that kind: of `value` the commonest first, ties by
    their text; of `files` by name. All of them, or as many as there are clients. Asked of the whole data, so that who
    is a client does not depend on the examples drawn; those of other values are nobody's.
    """
    if spec.name not in ("value", "files"):
        return None
    counts = Counter(values)
    if clients is not None and clients > len(counts):
        told = "file" if spec.name == "files" else "value of data.partition.by"
        raise InputError(
            f"{clients} clients of one {told} each, and the data has {len(counts)} of them; "
            "take as many clients or fewer, or leave data.clients out",
            "data.clients",
        )
    ranked = sorted(counts) if spec.name == "files" else sorted(counts, key=lambda value: (-counts[value], value))
    return ranked[:clients]


def hold_out(parts: list[Places], count: int, rng: np.random.Generator) -> list[tuple[Places, Places]]:
    """Of each client's places those it trains on and `count` that it does not, both ascending."""
    chosen = [np.sort(rng.permutation(len(part))[:count]) for part in parts]
    return [(np.delete(part, own), part[own]) for part, own in zip(parts, chosen, strict=True)]


def partition(
    spec: PartitionSpec,
    values: Sequence[str],
    n: int,
    clients: int | None,
    rng: np.random.Generator,
    owned: list[str] | None = None,
) -> list[Places]:
    """
    Ascending places, of n training examples, of each client's. `values` has each one's `values_of`; `owned` what
    `owned_values` said of the whole data.
    """
    if spec.name in ("value", "files"):
        return partition_by_value(values, owned or owned_values(spec, values, clients) or [])
    if clients is None:
        clients = len(spec.shares or [])
    if clients == 0:
        raise InputError(f"is needed: the partition {spec.name} does not tell how many there are", "data.clients")
    if n < clients * spec.min_examples:
        raise InputError(
            f"{clients} clients of at least {spec.min_examples} examples each need "
            f"{clients * spec.min_examples} training examples, there are {n}",
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
        raise InputError(f"is needed by the partition {spec.name}", f"data.partition.{option}")
    return value
