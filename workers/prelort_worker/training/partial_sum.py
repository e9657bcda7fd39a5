"""
Adds up the updates of one round, so that their sum travels and not each of them.

It is the order-free sum of the controller (src/tensor/order-free-sum.ts): every value times its weight is rounded to an
integer, and integers below 2^53 add up exactly, in any order and grouping. What is added is the update as it would have
been sent, so the result is the same to the last bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..wire.encoding import Floats, decode, encode_integers
from ..wire.fields import PartName
from ..wire.frames import Payload, Tensor
from ..wire.messages import Basis, Collect, Collected, Fit, Grant, Member, PartialSumSpec

# 1.5·2^52: adding it to a number of at most 2^51 rounds that to an integer, and subtracting it is exact.
_ROUNDER = 6755399441055744.0

# Values processed at a time: what is between fits in a processor's cache.
_BLOCK = 16384

_Key = tuple[str, int]


class HeldUpdates:
    """The updates that a worker keeps for the sum of one round at a time."""

    def __init__(self) -> None:
        self._sum: PartialSum | None = None

    def hold(self, task: Fit, update: Payload, spec: PartialSumSpec) -> float | None:
        """Keeps an update until it is granted; returns its norm if asked. Raises ValueError if it is too large."""
        if self._sum is None or self._sum.basis != spec.basis:
            self._sum = PartialSum(spec.basis)
        return self._sum.hold(task, update, spec)

    def grant(self, grant: Grant) -> None:
        """Adds an update to the sum, or forgets it."""
        if self._sum:
            self._sum.grant(grant)

    def collect(self, task: Collect) -> tuple[Collected, Payload]:
        """The sum; the next one starts at zero."""
        if self._sum is None:
            raise RuntimeError(f"{task.task_id}: no update of this round is held")
        return self._sum.collect(task)


@dataclass
class PartialSum:
    """Updates that wait to be granted, and the sum of those that were."""

    basis: Basis
    waiting: dict[_Key, Payload] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    integers: dict[PartName, NDArray[np.float64]] = field(default_factory=dict)
    # Of `rows`: components of the longest update so far, and their width.
    shape: tuple[int, int] = (0, 0)

    def hold(self, task: Fit, update: Payload, spec: PartialSumSpec) -> float | None:
        for name, tensor in update.items():
            _require_within(f"the update of client {task.client_id}: {name}", tensor, spec.largest)
        self.waiting[task.task_id, task.attempt] = update
        if not spec.needs_norm:
            return None
        return math.sqrt(sum((_sum_of_squares(update[name]) for name in ("rows", "dense") if name in update), 0.0))

    def grant(self, grant: Grant) -> None:
        """Adds an update, or forgets it. One that is not held any more belongs to an earlier round."""
        update = self.waiting.pop((grant.task_id, grant.attempt), None)
        if update is None or grant.weight is None:
            return
        for name, tensor in update.items():
            self._add(name, tensor, grant.weight * self.basis.resolution)
        rows, width = update["rows"].shape
        self.shape = (max(rows, self.shape[0]), width)
        self.members.append(Member(grant.task_id, grant.attempt))

    def collect(self, task: Collect) -> tuple[Collected, Payload]:
        if task.basis != self.basis:
            raise ValueError(f"the basis of a partial sum: expected {self.basis}, got {task.basis}")
        # Even if this fails: its clients will train again, and the next sum must be without them.
        members, sums, shape = self.members, self.integers, self.shape
        self.members, self.integers, self.shape = [], {}, (0, 0)
        payload: dict[PartName, Tensor] = {}
        for name, integers in sums.items():
            data, dtype = encode_integers(integers, task.dtype == "packed")
            payload[name] = Tensor(shape if name == "rows" else (len(integers),), data.data, dtype)
        return Collected(task.task_id, task.attempt, task.basis, members, []), payload

    def _add(self, name: PartName, tensor: Tensor, factor: float) -> None:
        length = math.prod(tensor.shape)
        integers = self.integers.get(name, np.empty(0))
        if len(integers) < length:
            self.integers[name] = np.concatenate([integers, np.zeros(length - len(integers))])
        for start, values in _blocks(tensor):
            products = np.multiply(values, factor, dtype=np.float64)
            products += _ROUNDER
            products -= _ROUNDER
            self.integers[name][start : start + len(products)] += products


def _blocks(tensor: Tensor) -> Iterator[tuple[int, Floats]]:
    """Its values in order, some at a time, each with the index of the first."""
    values = decode(tensor.data, tensor.dtype, math.prod(tensor.shape))
    for start in range(0, len(values), _BLOCK):
        yield start, values[start : start + _BLOCK]


def _require_within(subject: str, tensor: Tensor, largest: float) -> None:
    for start, values in _blocks(tensor):
        # NaN is the least and the largest of whatever it is among.
        if -largest <= values.min() and values.max() <= largest:
            continue
        wrong = int(np.flatnonzero(~(np.abs(values) <= largest))[0])
        expected = f"a finite number of at most {largest:g} in size"
        raise ValueError(f"{subject}[{start + wrong}]: expected {expected}, got {values[wrong]}")


def _sum_of_squares(tensor: Tensor) -> float:
    """Added in order, one after the other, as the controller does: pairwise sums would differ in the last bits."""
    total = np.float64(0)
    for _, values in _blocks(tensor):
        squares = np.multiply(values, values, dtype=np.float64)
        squares[0] += total
        total = np.add.accumulate(squares)[-1]
    return float(total)
