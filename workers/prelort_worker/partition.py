"""
Which client holds which example. Plain NumPy: flwr-datasets, which has the standard partitioners, needs
Python 3.11 and this package runs on 3.10.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .messages import PartitionSpec

_DRAWS = 1000

Places = NDArray[np.int64]


def partition_iid(n: int, clients: int, rng: np.random.Generator) -> list[Places]:
    return [np.sort(part) for part in np.array_split(rng.permutation(n), clients)]


def partition_dirichlet(
    values: list[str], clients: int, alpha: float, minimum: int, rng: np.random.Generator
) -> list[Places]:
    """
    Each value's examples are spread over the clients in shares drawn from Dirichlet(alpha), and all is drawn again
    until every client holds `minimum`, as the field does (Hsu et al., arXiv 1909.06335; Li et al., arXiv 2102.02079).
    """
    groups = [np.flatnonzero(np.array(values) == value) for value in sorted(set(values))]
    largest_minimum = 0
    for _ in range(_DRAWS):
        parts: list[list[Places]] = [[] for _ in range(clients)]
        for group in groups:
            shares = rng.dirichlet(np.full(clients, alpha))
            cuts = np.floor(np.cumsum(shares)[:-1] * len(group)).astype(int)
            for part, places in zip(parts, np.split(rng.permutation(group), cuts), strict=True):
                part.append(places)
        smallest = min(sum(map(len, part)) for part in parts)
        if smallest >= minimum:
            return [np.sort(np.concatenate(part)) for part in parts]
        largest_minimum = max(largest_minimum, smallest)
    raise InputError(
        f"data.partition: in {_DRAWS} draws of Dirichlet({alpha}) over {len(values)} examples and {clients} clients "
        f"the smallest client never held more than {largest_minimum} of the {minimum} examples asked for "
        "(min_examples); raise alpha or max_examples, or lower min_examples or clients"
    )


def commonest(values: list[str], clients: int) -> list[str]:
    """As many values as there are clients, the commonest first, ties by their text."""
    counts = Counter(values)
    if clients > len(counts):
        raise InputError(
            f"data.clients: {clients} clients of one value of data.partition.by each, and the file has {len(counts)} "
            "values; take as many clients or fewer"
        )
    return sorted(counts, key=lambda value: (-counts[value], value))[:clients]


def partition_by_value(values: list[str], owned: list[str]) -> list[Places]:
    """Client k holds the examples of the k-th owned value."""
    column = np.array(values)
    return [np.flatnonzero(column == value) for value in owned]


def hold_out(parts: list[Places], count: int, rng: np.random.Generator) -> list[tuple[Places, Places]]:
    """Of each client's places those it trains on and `count` that it does not, both ascending."""
    chosen = [np.sort(rng.permutation(len(part))[:count]) for part in parts]
    return [(np.delete(part, own), part[own]) for part, own in zip(parts, chosen, strict=True)]


def partition(spec: PartitionSpec, values: list[str], clients: int, rng: np.random.Generator) -> list[Places]:
    """Ascending places of each client's examples. `values` has the column of each example, for Dirichlet."""
    if len(values) < clients * spec.min_examples:
        raise InputError(
            f"data.clients: {clients} clients of at least {spec.min_examples} examples each need "
            f"{clients * spec.min_examples} training examples, there are {len(values)}"
        )
    if spec.name == "iid":
        return partition_iid(len(values), clients, rng)
    if spec.alpha is None:
        raise InputError("data.partition: dirichlet needs alpha")
    return partition_dirichlet(values, clients, spec.alpha, spec.min_examples, rng)
