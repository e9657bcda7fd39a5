"""
Prefix-nested training: the passes of every step (steps.py), each through an adapter truncated to a tier, or to one for
each example.

The optimizer is new for each fit, or goes on from the state that it is given (client_state.py). Its weight decay spares
rows that a step's truncation excludes; its momentum may still move them after a step of sampled. A step's loss is the
mean over all targets of its batches.

freeze_a trains B alone. tail_penalty λ adds λ·Σ ‖B[:, ρ:]‖_F·‖A[ρ:, :]‖_F over the modules, ρ the tier below r, to the
loss of every step, by which HetLoRA prunes ranks (Cho et al., arXiv 2401.06432). Reported losses exclude it and the
proximal term, so that they are comparable; they include what label_smoothing changes.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..prepared_dataset import PreparedDataset
from ..seeds import derive
from ..wire.specs import FitSpec
from .batches import Batch, collate, mean_loss
from .client_state import give_state, state_of
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
from .optimizers import decay, optimizer_of, warmth
from .regularisation import pull, regularised
from .repeatable import repeatable
from .steps import Pass, steps


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
    # Of the optimizer, where clients keep it: see client_state.py.
    state: Tensor | None = None


def train(
    nested: NestedLora,
    r: int,
    dataset: PreparedDataset,
    examples: range,
    spec: FitSpec,
    seed: str,
    on_step: Callable[[int, int], None],
    carried: Tensor | None = None,
) -> Trained:
    """
    Trains tier r's adapter in place, with an optimizer that goes on from the state `carried` from the client's fit
    before, if there is one. The same arguments and adapter give the same bytes. Calls `on_step` before every
    batch of every step, with the number of batches done and in total; it may raise.
    """
    torch.manual_seed(derive(seed, "dropout"))
    activate(nested, r)
    for a, _ in factors(nested, r):
        a.requires_grad_(not spec.freeze_a)
    set_training(nested)
    set_checkpointing(nested, spec.gradient_checkpointing)
    optimizer, rates = optimizer_of(nested, r, spec)
    if carried is not None:
        give_state(optimizer, nested, r, spec, carried)
    received = [value.detach().clone() for value in _trained(nested, r)] if spec.proximal_mu > 0 else []
    course = Course()
    n_batches = spec.gradient_accumulation_steps
    for number, step in enumerate(steps(nested.tiers, r, dataset, examples, spec, seed)):

        def on_batch(index: int, before: int = number * n_batches) -> None:
            on_step(before + index, spec.local_steps * n_batches)

        batches = [collate(nested.task, dataset, batch, nested.device) for batch in step.batches]
        optimizer.zero_grad()
        with ExitStack() as stack:
            stack.enter_context(regularised(nested, spec))
            if not step.merged_acts:
                stack.enter_context(base_as_loaded(nested))
            loss = _backward(nested, r, batches, step.plan, on_batch)
        if spec.tail_penalty > 0 and r > min(nested.tiers):
            (spec.tail_penalty * tail_norm(nested, r)).backward()
        if received:
            pull(_trained(nested, r), received, spec.proximal_mu)
        if spec.components is not None:
            _keep_still(nested, r, spec.components)
        norm = clip_grad_norm_(_trained(nested, r), spec.max_grad_norm).item() if spec.max_grad_norm > 0 else None
        decay(nested, r, spec, step, warmth(spec, number))
        optimizer.step()
        rates.step()
        course.add(len(step.plan), loss, norm)
    optimizer.zero_grad()
    if spec.client_state == "new":
        return course.trained()
    return replace(course.trained(), state=state_of(optimizer, nested, r, spec, carried))


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
    with truncated(nested, r, each.ranks), repeatable(nested):
        loss = mean_loss(nested, batch) * (each.weight * share)
        loss.backward()
    return loss.detach()


def _trained(nested: NestedLora, r: int) -> list[nn.Parameter]:
    """Module by module: in the order in which their norms are added up, on which the last bits of a step depend."""
    return [*(each for each in lora_parameters(nested, r) if each.requires_grad), *dense_parameters(nested, r)]
