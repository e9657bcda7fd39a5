"""
Which client holds which example. Plain NumPy: flwr-datasets, which has the standard partitioners, needs
Python 3.11 and this package runs on 3.10.
"""

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
