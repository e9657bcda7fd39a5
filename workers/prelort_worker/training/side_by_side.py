"""
Trains fits of several clients, of one run or of many, as one batch over the frozen base: its layers see the examples of
all fits at once, and each example's adapter is that of its own fit. A small model's step costs little more for sixteen
fits than for one. What a fit gives is what it gives alone up to rounding, since sums are then made in another order.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..errors import InputError
from ..prepared_dataset import PreparedDataset
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
from .train import Course, Pass, Step, Trained, acts, steps


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


def train_side_by_side(nested: NestedLora, fits: Sequence[Fit]) -> list[Finished | BaseException]:
    """
    In the order of the fits; for one whose `on_step` raised, what it raised. All must have the same number of examples
    in a batch and of batches in a step. Leaves out tail penalties and checkpointing.
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
    """One step of every lane; one whose `on_step` raises leaves the others alone."""
    todo = [(lane, next(lane.steps)) for lane in lanes]
    n_batches = len(todo[0][1].batches)
    batches = [_collate(nested, [(lane, step.batches[index]) for lane, step in todo]) for index in range(n_batches)]
    targets = [sum(batch.targets[place] for batch in batches) for place in range(len(todo))]
    stacks.reset()
    losses = torch.zeros(len(todo), dtype=torch.float64)
    for index, batch in enumerate(batches):
        for lane, _ in todo:
            _tell(lane, number * n_batches + index)
        for turn in range(max(len(step.plan) for _, step in todo)):
            places = [place for place, (_, step) in enumerate(todo) if turn < len(step.plan)]
            passes = [_part(todo[place][1].plan[turn], index, batch.size) for place in places]
            weights = [each.weight / targets[place] for place, each in zip(places, passes, strict=True)]
            chosen = [todo[place][0] for place in places]
            mask = torch.cat(
                [_mask(lane.fit, stacks.r, each, batch.size, number) for lane, each in zip(chosen, passes, strict=True)]
            )
            of_each = _pass(nested, stacks, batch.of(places), [lane.index for lane in chosen], mask, weights)
            losses[places] += of_each.double()
    norms = stacks.clip({lane.index: lane.fit.spec.max_grad_norm for lane, _ in todo})
    stacks.update(number + 1)
    for (lane, step), loss in zip(todo, losses.tolist(), strict=True):
        lane.course.add(len(step.plan), loss, norms[lane.index] if lane.fit.spec.max_grad_norm > 0 else None)


def _tell(lane: _Lane, done: int) -> None:
    spec = lane.fit.spec
    try:
        if lane.error is None:
            lane.fit.on_step(done, spec.local_steps * spec.gradient_accumulation_steps)
    except BaseException as error:
        lane.error = error


def _part(each: Pass, index: int, size: int) -> Pass:
    return each.part(index * size, (index + 1) * size)


@dataclass(frozen=True)
class _Joined:
    """A batch of each of several lanes, one after the other."""

    batch: Batch
    # Examples of each.
    size: int
    # The number of targets of each.
    targets: list[int]

    def of(self, places: list[int]) -> Batch:
        """The batches of some of the lanes."""
        if len(places) == len(self.targets):
            return self.batch
        kept = torch.cat([torch.arange(place * self.size, (place + 1) * self.size) for place in places])
        kept = kept.to(next(iter(self.batch.tensors.values())).device)
        n_targets = sum(self.targets[place] for place in places)
        return Batch({name: value[kept] for name, value in self.batch.tensors.items()}, n_targets)


def _collate(nested: NestedLora, batches: list[tuple[_Lane, list[int]]]) -> _Joined:
    size = len(batches[0][1])
    tensors = nested.task.collate([lane.fit.dataset.example(each) for lane, batch in batches for each in batch])
    targets = [
        nested.task.count_targets({name: value[start : start + size] for name, value in tensors.items()})
        for start in range(0, size * len(batches), size)
    ]
    moved = {name: value.to(nested.device) for name, value in tensors.items()}
    return _Joined(Batch(moved, sum(targets)), size, targets)


def _mask(fit: Fit, n_components: int, each: Pass, size: int, step: int) -> Tensor:
    """Which components act on each example: [examples, components]."""
    ranks = [each.ranks] * size if isinstance(each.ranks, int) else each.ranks
    component = torch.arange(n_components)
    merged = (component >= fit.r) & (component < fit.r + fit.n_merged) & acts(fit.spec.acting_tail, step)
    return ((component < torch.tensor(ranks).unsqueeze(-1)) | merged).float()


def _pass(
    nested: NestedLora, stacks: "_Stacks", batch: Batch, chosen: list[int], mask: Tensor, weights: list[float]
) -> Tensor:
    """Accumulates the gradients of the lanes' losses; returns the losses, [lanes]."""
    with stacks.acting(nested, chosen, mask.to(nested.device)):
        _, losses = forward(nested, batch)
        of_each = losses.reshape(len(chosen), -1).sum(1) * torch.tensor(weights, device=nested.device)
        of_each.sum().backward()
    return of_each.detach().cpu()


class _Stacks:
    """
    The adapters of all fits: A [fits, R, in] and B [fits, out, R] of each module, R the largest rank with what is
    merged, and the parameters of modules trained in full. All are parts of one buffer, so that the optimiser's step is
    a few operations. AdamW as `train` has it.
    """

    def __init__(self, nested: NestedLora, fits: Sequence[Fit]) -> None:
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
    def acting(self, nested: NestedLora, chosen: list[int], mask: Tensor) -> Iterator[None]:
        """Within the block, the i-th part of a batch's examples goes through the i-th chosen fit's adapter, masked."""
        everything = len(chosen) == self._shapes[0][0]
        at = torch.tensor(chosen, device=mask.device)
        leaves = self._leaves if everything else [leaf[at] for leaf in self._leaves]
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
            rates[2 * number + 1][:, trained] = fit.spec.lr if fit.spec.lr_b is None else fit.spec.lr_b
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
    """Adds s·B·A of each part's own adapter, masked for each example, to what the frozen module gives."""

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.shape[0] != mask.shape[0]:
            raise InputError(
                f"{module.shape.name} sees {x.shape[0]} rows for a batch of {mask.shape[0]} examples, so fits cannot "
                "train side by side; leave it out of target_modules, or compare without --side-by-side"
            )
        hidden = torch.bmm(x.reshape(len(a), -1, x.shape[-1]), a.transpose(1, 2))
        hidden = hidden.view(len(mask), -1, len(mask[0])) * mask.unsqueeze(1)
        added = torch.bmm(hidden.view(len(a), -1, len(mask[0])), b.transpose(1, 2))
        return output + scale * added.view(output.shape)

    return apply


def _saved_hook(saved: SavedModule, parameters: dict[str, Tensor]):
    """Each part through a module with the parameters of its own fit."""
    original = saved.wrapper.original_module

    def apply(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
        lanes = len(next(iter(parameters.values())))
        parts = x.reshape(lanes, -1, *x.shape[1:])
        result = vmap(lambda own, part: functional_call(original, own, (part,)))(parameters, parts)
        return result.flatten(0, 1)

    return apply
