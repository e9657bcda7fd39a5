"""
Prefix-nested training: a client of rank r minimises Σ over tiers t ≤ r of λ_t · L(W0 + ΔW(t)), Σ λ = 1.

    none        plain LoRA at the full rank.
    sum         every tier on the same batch, the losses weighted by λ: one pass a tier. The reference.
    sampled     one tier, drawn with probability λ: one pass.
    stratified  one pass over the batch's mean loss, in which each example has a tier of its own, by systematic
                sampling through the cumulative λ, shuffled: the expected gradient of sum at the cost of none.

The optimiser is AdamW, new for each fit, without weight decay, which would change rows that a truncation excludes. Its
momentum still does so after a step of sampled.

A step may accumulate several batches: its loss is the mean over all their targets, and truncations are drawn over all
their examples.

freeze_a trains B alone. tail_penalty λ adds λ·Σ ‖B[:, ρ:]‖_F·‖A[ρ:, :]‖_F over the modules, ρ the tier below r, to the
loss of every step, by which HetLoRA prunes ranks (Cho et al., arXiv 2401.06432). Reported losses exclude it, so that
they are comparable.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..prepared_dataset import PreparedDataset
from ..seeds import derive
from ..wire.specs import FitSpec, Objective
from .batches import Batch, collate, mean_loss
from .nested_lora import (
    NestedLora,
    activate,
    base_as_loaded,
    dense_parameters,
    factors,
    lora_parameters,
    set_checkpointing,
    set_training,
    truncated,
)


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass over a step: the weight of its loss, and the tier of all examples or of each."""

    weight: float
    ranks: int | list[int]

    def part(self, start: int, stop: int) -> "Pass":
        """The pass over a part of the step's examples."""
        return self if isinstance(self.ranks, int) else Pass(self.weight, self.ranks[start:stop])


@dataclass(frozen=True)
class Trained:
    # A pass over all batches of a step counts once.
    passes: int
    # Mean over the steps; None without steps.
    loss: float | None
    # √(mean over the steps of loss²); None without steps.
    rms_loss: float | None
    # Mean over the steps of the gradients' norm before clipping; None without steps, or where nothing is clipped.
    grad_norm: float | None = None


def train(
    nested: NestedLora,
    r: int,
    dataset: PreparedDataset,
    examples: range,
    spec: FitSpec,
    seed: str,
    on_step: Callable[[int, int], None],
) -> Trained:
    """
    Trains tier r's adapter in place. The same arguments and adapter give the same bytes. Calls `on_step` before every
    batch of every step, with the number of batches done and in total; it may raise.
    """
    torch.manual_seed(derive(seed, "dropout"))
    activate(nested, r)
    for a, _ in factors(nested, r):
        a.requires_grad_(not spec.freeze_a)
    set_training(nested)
    set_checkpointing(nested, spec.gradient_checkpointing)
    optimizer = _optimizer(nested, r, spec)
    course = Course()
    n_batches = spec.gradient_accumulation_steps
    for number, step in enumerate(steps(nested.tiers, r, dataset, examples, spec, seed)):

        def on_batch(index: int, before: int = number * n_batches) -> None:
            on_step(before + index, spec.local_steps * n_batches)

        batches = [collate(nested.task, dataset, batch, nested.device) for batch in step.batches]
        optimizer.zero_grad()
        with ExitStack() as stack:
            if not acts(spec.acting_tail, number):
                stack.enter_context(base_as_loaded(nested))
            loss = _backward(nested, r, batches, step.plan, on_batch)
        if spec.tail_penalty > 0 and r > min(nested.tiers):
            (spec.tail_penalty * tail_norm(nested, r)).backward()
        if spec.components is not None:
            _keep_still(nested, r, spec.components)
        norm = clip_grad_norm_(_trained(nested, r), spec.max_grad_norm).item() if spec.max_grad_norm > 0 else None
        optimizer.step()
        course.add(len(step.plan), loss, norm)
    optimizer.zero_grad()
    return course.trained()


@dataclass(frozen=True)
class Step:
    """The examples of a step, batch by batch, and its passes over them."""

    batches: list[list[int]]
    plan: list[Pass]


def steps(
    tiers: tuple[int, ...], r: int, dataset: PreparedDataset, examples: range, spec: FitSpec, seed: str
) -> Iterator[Step]:
    """The steps of a client's fit, which follow from these arguments alone."""
    weights = tier_weights(tiers, r, spec.full_weight)
    order = _batches(dataset, examples, spec, np.random.default_rng(derive(seed, "order")))
    draws = np.random.default_rng(derive(seed, "truncations"))
    for _ in range(spec.local_steps):
        batches = list(islice(order, spec.gradient_accumulation_steps))
        yield Step(batches, plan_step(spec.objective, weights, sum(map(len, batches)), draws))


@dataclass
class Course:
    """What is told of a fit, step by step."""

    passes: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def add(self, passes: int, loss: float, norm: float | None) -> None:
        self.passes += passes
        self.losses.append(loss)
        if norm is not None:
            self.norms.append(norm)

    def trained(self) -> Trained:
        if not self.losses:
            return Trained(self.passes, None, None)
        rms = math.sqrt(sum(loss**2 for loss in self.losses) / len(self.losses))
        return Trained(self.passes, _mean(self.losses), rms, _mean(self.norms) if self.norms else None)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def acts(share: float, step: int) -> bool:
    """Whether what is merged acts in a step, counted from 0: in `share` of the steps, evenly spread."""
    return math.floor((step + 1) * share) > math.floor(step * share)


def _keep_still(nested: NestedLora, r: int, components: list[int]) -> None:
    """Takes the gradients of all other components, so that the optimiser leaves these as they are."""
    still = torch.ones(r, dtype=torch.bool)
    still[components] = False
    for a, b in factors(nested, r):
        if a.grad is not None:
            a.grad[still] = 0
        if b.grad is not None:
            b.grad[:, still] = 0


def tail_norm(nested: NestedLora, r: int) -> Tensor:
    """
    Σ ‖B[:, ρ:]‖_F·‖A[ρ:, :]‖_F over the modules, ρ the tier below r. At B = 0, where the norm is not differentiable,
    PyTorch uses zero as its gradient.
    """
    below = max(tier for tier in nested.tiers if tier < r)
    norm = torch.linalg.vector_norm
    return torch.stack([norm(b[:, below:]) * norm(a[below:]) for a, b in factors(nested, r)]).sum()


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


def _backward(
    nested: NestedLora,
    r: int,
    batches: list[Batch],
    plan: list[Pass],
    on_batch: Callable[[int], None],
) -> float:
    """Accumulates the gradients of a step's loss, and returns the loss."""
    n_targets, start, losses = sum(batch.n_targets for batch in batches), 0, []
    for index, batch in enumerate(batches):
        on_batch(index)
        passes = [each.part(start, start + len(batch)) for each in plan]
        share = batch.n_targets / n_targets
        losses += [_pass(nested, r, batch, each, share) for each in passes]
        start += len(batch)
    return sum(loss.item() for loss in losses)  # at the end, since each call waits for the device


def _pass(nested: NestedLora, r: int, batch: Batch, each: Pass, share: float) -> Tensor:
    with truncated(nested, r, each.ranks):
        loss = mean_loss(nested, batch) * (each.weight * share)
        loss.backward()
    return loss.detach()


def _optimizer(nested: NestedLora, r: int, spec: FitSpec) -> torch.optim.AdamW:
    pairs = factors(nested, r)
    groups = [
        {"params": [a for a, _ in pairs if a.requires_grad], "lr": spec.lr},
        {"params": [b for _, b in pairs], "lr": spec.lr_b},
        {"params": dense_parameters(nested, r), "lr": spec.head_lr},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0)


def _trained(nested: NestedLora, r: int) -> list[Tensor]:
    """Module by module: in the order in which their norms are added up, on which the last bits of a step depend."""
    return [*(each for each in lora_parameters(nested, r) if each.requires_grad), *dense_parameters(nested, r)]
