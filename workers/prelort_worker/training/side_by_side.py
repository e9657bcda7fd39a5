"""
Trains fits of several clients, of one run or of many, as one batch over the frozen base: its layers see the examples of
all fits at once, and each example's adapter is that of its own fit: less padding and overhead than one by one. What a
fit gives is what it gives alone up to rounding, since sums are then made in another order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..prepared_dataset import Example, PreparedDataset
from .adapter_stacks import AdapterStacks, Start
from .batches import Batch, count_each, forward
from .nested_lora import NestedLora, set_checkpointing, set_training
from .steps import Step, steps
from .train import Course, Trained


@dataclass(frozen=True)
class Fit(Start):
    """A client's fit."""

    dataset: PreparedDataset
    examples: range
    seed: str
    # Called before every batch of every step, with the number of batches done and in total.
    # If it raises, this fit ends.
    on_step: Callable[[int, int], None]


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
    penalties, checkpointing, and what regularisation.py and optimizers.py add to plain AdamW.
    """
    set_training(nested)
    set_checkpointing(nested, False)
    lanes = [
        _Lane(fit, index, steps(nested.tiers, fit.r, fit.dataset, fit.examples, fit.spec, fit.seed))
        for index, fit in enumerate(fits)
    ]
    stacks = AdapterStacks(nested, fits)
    training = lanes
    while training:
        going = [(lane, step) for lane in training if (step := next(lane.steps, None))]
        for lane in set(training).difference(lane for lane, _ in going):
            stacks.leave(lane.index)
        _step(nested, stacks, going)
        for lane, _ in going:
            if lane.error:
                on_error(lane.index, lane.error)
        training = [lane for lane, _ in going if lane.error is None]
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


def _step(nested: NestedLora, stacks: AdapterStacks, todo: list[tuple[_Lane, Step]]) -> None:
    """One step of every lane; one whose `on_step` raises, or whose examples cannot be read, leaves the others alone."""
    seen = [each for lane, step in todo for each in _begun(lane, step, stacks.r)]
    if not seen:
        return
    batches = _collate(nested, seen)
    targets: Counter[int] = Counter()
    for _, chunk, counts in batches:
        for each, n_targets in zip(chunk, counts, strict=True):
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
    stacks.update()
    for lane, step in todo:
        if lane.error:
            continue
        clipped = lane.fit.spec.max_grad_norm > 0
        lane.course.add(len(step.plan), losses[lane.index].item(), norms[lane.index] if clipped else None)


def _begun(lane: _Lane, step: Step, n_components: int) -> "list[_Seen]":
    """What a lane sees in a step that it has told of; nothing once it has an error."""
    n_batches, n_done = len(step.batches), len(lane.course.losses)
    try:
        for index in range(n_batches):
            lane.fit.on_step(n_done * n_batches + index, lane.fit.spec.local_steps * n_batches)
        return list(_seen(lane.fit, lane.index, step, n_components))
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


def _seen(fit: Fit, lane: int, step: Step, n_components: int) -> Iterator[_Seen]:
    examples = [fit.dataset.example(index) for batch in step.batches for index in batch]
    component = torch.arange(n_components)
    merged = (component >= fit.r) & (component < fit.r + fit.n_merged) & step.merged_acts
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
        counts = count_each(nested.task, tensors)
        moved = {name: value.to(nested.device) for name, value in tensors.items()}
        batches.append((Batch(moved, sum(counts), tensors), chunk, counts))
    return batches


def _pass(
    nested: NestedLora, stacks: AdapterStacks, batch: Batch, lanes: Tensor, mask: Tensor, weights: Tensor
) -> Tensor:
    """Accumulates the gradients of the weighted losses of a batch; returns these, [examples]."""
    with stacks.acting(nested, lanes.to(nested.device), mask.to(nested.device)):
        _, losses = forward(nested, batch)
        of_each = losses.reshape(len(batch), -1).sum(1) * weights
        of_each.sum().backward()
    return of_each.detach().cpu()
