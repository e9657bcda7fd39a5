"""
The steps of a client's fit: its batches, and the truncations that each trains. They follow from the fit's seed alone,
wherever and beside whatever it trains.

A client of rank r minimises Σ over tiers t ≤ r of λ_t · L(W0 + ΔW(t)), Σ λ = 1.

    none        plain LoRA at the full rank.
    sum         every tier on the same batch, the losses weighted by λ: one pass a tier. The reference.
    sampled     one tier, drawn with probability λ: one pass.
    stratified  one pass over the batch's mean loss, in which each example has a tier of its own, by systematic
                sampling through the cumulative λ, shuffled: the expected gradient of sum at the cost of none.

A step may accumulate several batches: truncations are drawn over all their examples.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..prepared_dataset import PreparedDataset
from ..seeds import derive
from ..wire.specs import FitSpec, Objective


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass over a step: the weight of its loss, and the tier of all examples or of each."""

    weight: float
    ranks: int | list[int]

    def part(self, start: int, stop: int) -> "Pass":
        """The pass over a part of the step's examples."""
        return self if isinstance(self.ranks, int) else Pass(self.weight, self.ranks[start:stop])


@dataclass(frozen=True)
class Step:
    """The examples of a step, batch by batch, and its passes over them."""

    batches: list[list[int]]
    plan: list[Pass]
    # Whether what is merged into the base model acts.
    merged_acts: bool

    @property
    def largest(self) -> int:
        """The largest rank that it trains; a truncation leaves out the components above."""
        ranks = (each.ranks for each in self.plan)
        return max(each if isinstance(each, int) else max(each) for each in ranks)


def steps(
    tiers: tuple[int, ...], r: int, dataset: PreparedDataset, examples: range, spec: FitSpec, seed: str
) -> Iterator[Step]:
    """The steps of a client's fit, which follow from these arguments alone."""
    weights = tier_weights(tiers, r, spec.full_weight)
    order = _batches(dataset, examples, spec, np.random.default_rng(derive(seed, "order")))
    draws = np.random.default_rng(derive(seed, "truncations"))
    for number in range(spec.local_steps):
        batches = list(islice(order, spec.gradient_accumulation_steps))
        plan = plan_step(spec.objective, weights, sum(map(len, batches)), draws)
        yield Step(batches, plan, acts(spec.acting_tail, number))


def acts(share: float, step: int) -> bool:
    """Whether what is merged acts in a step, counted from 0: in `share` of the steps, evenly spread."""
    return math.floor((step + 1) * share) > math.floor(step * share)


def tier_weights(tiers: tuple[int, ...], r: int, full_weight: float | None) -> dict[int, float]:
    """λ of each tier ≤ r, ascending: `full_weight` for r and the rest split evenly, or all equal."""
    lower = [tier for tier in tiers if tier < r]
    full = 1 / (len(lower) + 1) if full_weight is None else full_weight
    if not lower:
        return {r: 1.0}
    return {**dict.fromkeys(lower, (1 - full) / len(lower)), r: full}


def plan_step(objective: Objective, weights: dict[int, float], batch_size: int, rng: np.random.Generator) -> list[Pass]:
    """The passes of one step. With a single tier of non-zero weight, every objective is plain training."""
    weights = {r: weight for r, weight in weights.items() if weight > 0}
    full = max(weights)
    if objective == "none" or len(weights) == 1:
        return [Pass(1.0, full)]
    tiers, shares = list(weights), np.array(list(weights.values()))
    if objective == "sum":
        return [Pass(weight, r) for r, weight in weights.items()]
    if objective == "sampled":
        return [Pass(1.0, int(rng.choice(tiers, p=shares / shares.sum())))]
    points = (rng.random() + np.arange(batch_size)) / batch_size
    indices = np.searchsorted(np.cumsum(shares)[:-1], points, side="right")
    return [Pass(1.0, [tiers[index] for index in rng.permutation(indices)])]


def endless_batches(examples: range, batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """An endless stream of permutations of the examples, cut into batches that may span two permutations."""
    stream = _endless(examples, rng)
    while True:
        yield list(islice(stream, batch_size))


def batches_by_length(
    examples: range, batch_size: int, rng: np.random.Generator, length: Callable[[int], int]
) -> Iterator[list[int]]:
    """Like endless_batches, but groups of at most 50 batches, or a permutation, are sorted by length and shuffled."""
    stream = _endless(examples, rng)
    n_batches = min(math.ceil(len(examples) / batch_size), 50)
    while True:
        group = sorted(islice(stream, n_batches * batch_size), key=length)
        for index in rng.permutation(n_batches).tolist():
            yield group[index * batch_size : (index + 1) * batch_size]


def _endless(examples: range, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (rng.permutation(len(examples)) + examples.start).tolist()


def _batches(dataset: PreparedDataset, examples: range, spec: FitSpec, rng: np.random.Generator) -> Iterator[list[int]]:
    if not spec.group_by_length:
        return endless_batches(examples, spec.batch_size, rng)
    return batches_by_length(examples, spec.batch_size, rng, dataset.length)
