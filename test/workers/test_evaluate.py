"""Sums over shards of the held-out examples."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from models_for_tests import index_of, nested_of, random_adapter
from prelort_worker.evaluate import evaluate_tier
from prelort_worker.messages import Task
from prelort_worker.nested_lora import NestedLora, activate, write
from torch.nn import functional

TASKS = get_args(Task)


def evaluate(nested: NestedLora, folder: Path, shard: range, batch_size: int = 5):
    return evaluate_tier(nested, 4, index_of(folder, nested.task), shard, batch_size, lambda _done, _of: None)


def ready(tiny: Path, task: Task) -> NestedLora:
    nested = nested_of(tiny, task)
    write(nested, 4, *random_adapter(nested, 4))
    return nested


@torch.no_grad()
def by_hand(nested: NestedLora, folder: Path) -> tuple[float, int, int]:
    """One example at a time, without padding."""
    index = index_of(folder, nested.task)
    activate(nested, 4)
    nested.model.eval()
    loss, targets, correct = 0.0, 0, 0
    for example in index.held_out:
        tokens, target = index.tokens(example).long(), int(index.targets[example])
        logits = nested.model(input_ids=tokens[None]).logits[0]
        if nested.task == "causal-lm":
            loss += functional.cross_entropy(logits[target - 1 : -1], tokens[target:], reduction="sum").item()
            targets += len(tokens) - target
        else:
            loss += functional.cross_entropy(logits, torch.tensor(target)).item()
            targets += 1
            correct += int(logits.argmax()) == target
    return loss, targets, correct


@pytest.mark.parametrize("task", TASKS)
def test_the_sums_are_those_of_one_example_at_a_time(tiny: Path, task: Task):
    nested = ready(tiny, task)
    sums = evaluate(nested, tiny, range(24))
    loss, targets, correct = by_hand(nested, tiny)
    assert sums.loss_sum == pytest.approx(loss, rel=1e-5)
    assert (sums.r, sums.n_tokens, sums.n_examples) == (4, targets, 24)
    assert sums.n_correct == (correct if task == "sequence-classification" else None)


def test_shards_add_up_and_repeat_to_the_bit(tiny: Path):
    nested = ready(tiny, "causal-lm")
    whole, *parts = (evaluate(nested, tiny, shard) for shard in (range(24), range(10), range(10, 24)))
    assert sum(part.n_tokens for part in parts) == whole.n_tokens
    assert sum(part.loss_sum or 0 for part in parts) == pytest.approx(whole.loss_sum, rel=1e-6)
    assert evaluate(nested, tiny, range(10)) == parts[0]


def test_a_loss_that_is_not_finite_is_told_as_null(tiny: Path):
    nested = ready(tiny, "sequence-classification")
    rows, dense = random_adapter(nested, 4)
    write(nested, 4, rows, dense * float("inf"))
    assert evaluate(nested, tiny, range(4)).loss_sum is None


def test_a_shard_beyond_the_held_out_examples_is_refused(tiny: Path):
    with pytest.raises(ValueError, match=r"expected a part of the 24 held-out examples, got range\(20, 28\)"):
        evaluate(ready(tiny, "causal-lm"), tiny, range(20, 28))
