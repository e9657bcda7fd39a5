"""
Trains fits of several clients, of one run or of many, as one batch over the frozen base: its layers see the examples of
all fits at once, and each example's adapter is that of its own fit. A small model's step costs little more for sixteen
fits than for one. What a fit gives is what it gives alone up to rounding, since sums are then made in another order.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..errors import InputError
from ..prepared_dataset import Example, PreparedDataset
from ..wire.specs import FitSpec
from .batches import Batch, forward
from .nested_lora import (
    AdaptedModule,
    NestedLora,
    SavedModule,
    adapter_name,
    dense_parameters,
    set_checkpointing,
    set_training,
)
from .train import Course, Step, Trained, acts, steps


@dataclass(frozen=True)
class Fit:
    """A client's fit: what it starts from, and on what it trains."""

    r: int
    # [r, width]
    rows: Tensor
    dense: Tensor
    dataset: PreparedDataset
    examples: range
    spec: FitSpec
    seed: str
    # Called before every batch of every step, with the number of batches done and in total.
    # If it raises, this fit ends.
    on_step: Callable[[int, int], None]
    # [n, width]: further components, which act in the steps that `acting_tail` says, and do not train.
    merged: Tensor | None = None

    @property
    def n_merged(self) -> int:
        return 0 if self.merged is None else len(self.merged)


@dataclass(frozen=True)
class Finished:
    """What a fit ends with."""

    rows: Tensor
    dense: Tensor
    trained: Trained


def train_side_by_side(
    nested: NestedLora,
    fits: Sequence[Fit],
    on_error: Callable[[int, BaseException], None] = lambda _index, _error: None,
) -> list[Finished | BaseException]:
    """
    In the order of the fits; for one whose `on_step` or dataset raised, what it raised. All must have the same number
    of batches in a step. Calls `on_error` with a fit's index at once, since the others may take long. Leaves out tail
    penalties and checkpointing.
    """
    set_training(nested)
    set_checkpointing(nested, False)
    lanes = [
        _Lane(fit, index, steps(nested.tiers, fit.r, fit.dataset, fit.examples, fit.spec, fit.seed))
        for index, fit in enumerate(fits)
    ]
    stacks = _Stacks(nested, fits)
    for number in range(max(fit.spec.local_steps for fit in fits)):
        training = [lane for lane in lanes if lane.error is None and number < lane.fit.spec.local_steps]
        for lane in lanes:
            if lane not in training:
                stacks.leave(lane.index)
        if training:
            _step(nested, stacks, training, number)
        for lane in training:
            if lane.error:
                on_error(lane.index, lane.error)
    return [lane.error or Finished(*stacks.read(lane.index, lane.fit.r), lane.course.trained()) for lane in lanes]


@dataclass(eq=False)
class _Lane:
    """A fit under way."""

    fit: Fit
    # Of its adapter in the stacks.
    index: int
    steps: Iterator[Step]
    course: Course = field(default_factory=Course)
    error: BaseException | None = None


def _step(nested: NestedLora, stacks: "_Stacks", lanes: list[_Lane], number: int) -> None:
    """One step of every lane; one whose `on_step` raises, or whose examples cannot be read, leaves the others alone."""
    todo = [(lane, next(lane.steps)) for lane in lanes]
    seen = [each for lane, step in todo for each in _begun(lane, step, stacks.r, number)]
    if not seen:
        return
    batches = _collate(nested, seen)
    targets: Counter[int] = Counter()
    for each, n_targets in (
        (each, count) for _, chunk, counts in batches for each, count in zip(chunk, counts, strict=True)
    ):
        if each.is_first:
            targets[each.lane] += n_targets
    stacks.reset()
    losses = torch.zeros(stacks.n_fits, dtype=torch.float64)
    for batch, chunk, _ in batches:
        weights = torch.tensor([each.weight / targets[each.lane] for each in chunk], device=nested.device)
        at = torch.tensor([each.lane for each in chunk])
        mask = torch.stack([each.mask for each in chunk])
        losses.index_add_(0, at, _pass(nested, stacks, batch, at, mask, weights).double())
    norms = stacks.clip({lane.index: lane.fit.spec.max_grad_norm for lane, _ in todo})
    stacks.update(number + 1)
    for lane, step in todo:
        if lane.error:
            continue
        clipped = lane.fit.spec.max_grad_norm > 0
        lane.course.add(len(step.plan), losses[lane.index].item(), norms[lane.index] if clipped else None)


def _begun(lane: _Lane, step: Step, n_components: int, number: int) -> "list[_Seen]":
    """What a lane sees in a step that it has told of; nothing once it has an error."""
    n_batches = len(step.batches)
    try:
        for index in range(n_batches):
            lane.fit.on_step(number * n_batches + index, lane.fit.spec.local_steps * n_batches)
        return list(_seen(lane.fit, lane.index, step, n_components, number))
    except BaseException as error:
        lane.error = error
        return []


@dataclass(frozen=True)
class _Seen:
    """An example in a pass of a lane's step."""

    lane: int
    example: Example
    length: int
    # Of the pass, in the step's loss.
    weight: float
    # Which components act on it, [components].
    mask: Tensor
    # In the first pass of its step; others see it again.
    is_first: bool


def _seen(fit: Fit, lane: int, step: Step, n_components: int, number: int) -> Iterator[_Seen]:
    examples = [fit.dataset.example(index) for batch in step.batches for index in batch]
    component = torch.arange(n_components)
    merged = (component >= fit.r) & (component < fit.r + fit.n_merged) & acts(fit.spec.acting_tail, number)
    for turn, each in enumerate(step.plan):
        ranks = [each.ranks] * len(examples) if isinstance(each.ranks, int) else each.ranks
        for example, r in zip(examples, ranks, strict=True):
            length = max((len(value) for value in example.values() if value.dim() > 0), default=0)
            yield _Seen(lane, example, length, each.weight, ((component < r) | merged).float(), turn == 0)


# Examples in a batch. Of similar length, there is little padding; and what is in between fits in a processor's cache.
_BATCH = 64


def _collate(nested: NestedLora, seen: list[_Seen]) -> list[tuple[Batch, list[_Seen], list[int]]]:
    """Batches of examples of similar length, their examples, and the number of targets of each."""
    ordered = sorted(seen, key=lambda each: each.length)
    batches = []
    for start in range(0, len(ordered), _BATCH):
        chunk = ordered[start : start + _BATCH]
        tensors = nested.task.collate([each.example for each in chunk])
        counts = [
            nested.task.count_targets({name: value[index : index + 1] for name, value in tensors.items()})
            for index in range(len(chunk))
        ]
        moved = {name: value.to(nested.device) for name, value in tensors.items()}
        batches.append((Batch(moved, sum(counts)), chunk, counts))
    return batches


def _pass(nested: NestedLora, stacks: "_Stacks", batch: Batch, lanes: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Accumulates the gradients of the weighted losses of a batch; returns these, [examples]."""
    with stacks.acting(nested, lanes.to(nested.device), mask.to(nested.device)):
        _, losses = forward(nested, batch)
        of_each = losses.reshape(len(batch), -1).sum(1) * weights
        of_each.sum().backward()
    return of_each.detach().cpu()


class _Stacks:
    """
    The adapters of all fits: A [fits, R, in] and B [fits, out, R] of each module, R the largest rank with what is
    merged, and the parameters of modules trained in full. All are parts of one buffer, so that the optimiser's step is
    a few operations. AdamW as `train` has it.
    """

    def __init__(self, nested: NestedLora, fits: Sequence[Fit]) -> None:
        self.n_fits = len(fits)
        self.r = max(fit.r + fit.n_merged for fit in fits)
        factors = [((self.r, each.shape.in_), (each.shape.out, self.r)) for each in nested.modules]
        shapes = [shape for pair in factors for shape in pair]
        self._n_factors = len(shapes)
        shapes += [tuple(value.shape) for value in dense_parameters(nested, nested.tiers[0])]
        self._shapes = [(len(fits), *shape) for shape in shapes]
        self._ends = [0, *accumulate(math.prod(shape) for shape in self._shapes)]
        self._values, self._grads, self._means, self._squares, self._rates = (
            torch.zeros(self._ends[-1], device=nested.device) for _ in range(5)
        )
        for index, fit in enumerate(fits):
            self._write(nested, index, fit)
        self._leaves = [value.detach().requires_grad_() for value in self._parts(self._values)]
        for leaf, grad in zip(self._leaves, self._parts(self._grads), strict=True):
            leaf.grad = grad

    def read(self, index: int, r: int) -> tuple[Tensor, Tensor]:
        """Rows [r, width] and dense [size] of a fit: float32 copies on the CPU."""
        parts = [value[index] for value in self._parts(self._values)]
        factors = parts[: self._n_factors]
        rows = [part[:r] if number % 2 == 0 else part[:, :r].T for number, part in enumerate(factors)]
        dense = [part.reshape(-1) for part in parts[self._n_factors :]]
        return torch.cat(rows, dim=1).cpu(), torch.cat(dense).cpu() if dense else torch.zeros(0)

    def reset(self) -> None:
        """Sets the gradients to zero."""
        self._grads.zero_()

    def leave(self, index: int) -> None:
        """That fit trains no more."""
        for rate in self._parts(self._rates):
            rate[index] = 0

    def clip(self, largest: dict[int, float]) -> dict[int, float]:
        """Scales the gradients of each fit down to its largest norm, unless that is 0; returns the norms before."""
        if not any(largest.values()):
            return dict.fromkeys(largest, 0.0)
        trained = self._parts(self._grads * (self._rates > 0))
        norms = torch.stack([part.flatten(1).square().sum(1) for part in trained]).sum(0).sqrt()
        for index, limit in largest.items():
            if limit > 0:
                for grad in self._parts(self._grads):
                    grad[index] *= (limit / (norms[index] + 1e-6)).clamp(max=1.0)
        return {index: norms[index].item() for index in largest}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """The step-th step of AdamW without weight decay."""
        self._means.lerp_(self._grads, 1 - _BETAS[0])
        self._squares.mul_(_BETAS[1]).addcmul_(self._grads, self._grads, value=1 - _BETAS[1])
        size = self._squares.sqrt().div_(math.sqrt(1 - _BETAS[1] ** step)).add_(_EPS)
        self._values -= (self._rates / (1 - _BETAS[0] ** step)).mul_(self._means).div_(size)

    @contextmanager
    def acting(self, nested: NestedLora, lanes: Tensor, mask: Tensor) -> Iterator[None]:
        """Within the block, each example of a batch goes through the adapter of its own fit, masked."""
        leaves = [leaf.index_select(0, lanes) for leaf in self._leaves]
        dense = iter(leaves[self._n_factors :])
        with ExitStack() as stack:
            stack.enter_context(nested.model.disable_adapter())
            for number, module in enumerate(nested.modules):
                hook = _adapter_hook(module, leaves[2 * number], leaves[2 * number + 1], mask, nested.scale)
                stack.enter_context(cast(nn.Module, module.layer).register_forward_hook(hook))
            for saved in nested.saved:
                names = [name for name, _ in saved.parameters(adapter_name(nested.tiers[0]))]
                own = {name.removeprefix(f"{saved.name}."): next(dense) for name in names}
                stack.enter_context(saved.wrapper.register_forward_hook(_saved_hook(saved, own)))
            yield

    def _write(self, nested: NestedLora, index: int, fit: Fit) -> None:
        values, rates = ([part[index] for part in self._parts(buffer)] for buffer in (self._values, self._rates))
        rows = fit.rows if fit.merged is None else torch.cat([fit.rows, fit.merged])
        trained = list(range(fit.r)) if fit.spec.components is None else fit.spec.components
        offset = 0
        for number, module in enumerate(nested.modules):
            middle, end = offset + module.shape.in_, offset + module.width
            values[2 * number][: len(rows)] = rows[:, offset:middle]
            values[2 * number + 1][:, : len(rows)] = rows[:, middle:end].T
            rates[2 * number][trained] = 0 if fit.spec.freeze_a else fit.spec.lr
            rates[2 * number + 1][:, trained] = fit.spec.lr_b
            offset = end
        offset = 0
        for value, rate in zip(values[self._n_factors :], rates[self._n_factors :], strict=True):
            value[:] = fit.dense[offset : offset + value.numel()].view_as(value)
            rate[:] = fit.spec.head_lr
            offset += value.numel()

    def _parts(self, buffer: Tensor) -> list[Tensor]:
        """[fits, *shape] each."""
        places = zip(self._ends, self._ends[1:], self._shapes, strict=False)
        return [buffer[start:end].view(shape) for start, end, shape in places]


# AdamW's, as PyTorch has them by default.
_BETAS, _EPS = (0.9, 0.999), 1e-8


def _adapter_hook(module: AdaptedModule, a: Tensor, b: Tensor, mask: Tensor, scale: float):
    """Adds s·B·A of each example's own adapter, masked, to what the frozen module gives."""

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.shape[0] != len(mask):
            raise InputError(
                f"{module.shape.name} sees {x.shape[0]} rows for a batch of {len(mask)} examples, so fits cannot "
                "train side by side; leave it out of target_modules, or compare without --side-by-side"
            )
        hidden = torch.bmm(x.reshape(len(a), -1, x.shape[-1]), a.transpose(1, 2)) * (scale * mask).unsqueeze(1)
        return output + torch.bmm(hidden, b.transpose(1, 2)).view(output.shape)

    return apply


def _saved_hook(saved: SavedModule, parameters: dict[str, Tensor]):
    """Each example through a module with the parameters of its own fit."""
    original = saved.wrapper.original_module

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
        # Of a batch of one, since a head may take the first position of every example.
        return vmap(lambda own, part: functional_call(original, own, (part.unsqueeze(0),)).squeeze(0))(parameters, x)

    return apply
