"""Sums over shards of the held-out examples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import dataset_of, nested_of, prompt_length, random_adapter, task_of, tokens_of
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.training.evaluate import evaluate_tier, shard_of
from prelort_worker.training.example_values import ExampleValues
from prelort_worker.training.nested_lora import NestedLora, activate, write
from prelort_worker.wire.messages import Evaluate
from specs import SEED, TASKS, data_spec, model_spec
from sums import Sums, sums_of
from torch.nn import functional


def values_of(nested: NestedLora, folder: Path, shard: range, batch_size: int = 5) -> ExampleValues:
    dataset = dataset_of(folder, nested.task.model.task)
    return evaluate_tier(nested, 4, dataset, shard, batch_size, lambda _done, _of: None)


def evaluate(nested: NestedLora, folder: Path, shard: range) -> Sums:
    return sums_of(4, values_of(nested, folder, shard))


def ready(tiny: Path, task: str) -> NestedLora:
    nested = nested_of(tiny, task)
    write(nested, 4, *random_adapter(nested, 4))
    return nested


@torch.no_grad()
def by_hand(nested: NestedLora, folder: Path) -> tuple[float, int, list[list[int]]]:
    """One example at a time, without padding: loss, what it was taken over, [actual, predicted] of each."""
    dataset = dataset_of(folder, nested.task.model.task)
    activate(nested, 4)
    nested.model.eval()
    loss, targets, answers = 0.0, 0, []
    for example in dataset.held_out:
        tokens = tokens_of(dataset, example)
        logits = nested.model(input_ids=tokens[None]).logits[0]
        if nested.task.model.task == "causal-lm":
            prompt = prompt_length(dataset, example)
            loss += functional.cross_entropy(logits[prompt - 1 : -1], tokens[prompt:], reduction="sum").item()
            targets += len(tokens) - prompt
        else:
            target = int(dataset.fields["labels"][example])
            loss += functional.cross_entropy(logits, torch.tensor(target)).item()
            targets += 1
            answers.append([target, int(logits.argmax())])
    return loss, targets, answers


@torch.no_grad()
def token_accuracy(nested: NestedLora, folder: Path) -> float:
    """By hand: over the examples, Σ of the share of answer tokens that are the most likely ones."""
    dataset = dataset_of(folder, "causal-lm")
    shares = []
    for example in dataset.held_out:
        tokens, prompt = tokens_of(dataset, example), prompt_length(dataset, example)
        likely = nested.model(input_ids=tokens[None]).logits[0].argmax(-1)
        shares.append((likely[prompt - 1 : -1] == tokens[prompt:]).float().mean().item())
    assert 0 < sum(shares) < len(shares)
    return sum(shares)


@pytest.mark.parametrize("task", TASKS)
def test_sums_equal_those_of_one_example_at_a_time(tiny: Path, task: str):
    nested = ready(tiny, task)
    sums = evaluate(nested, tiny, range(24))
    loss, targets, answers = by_hand(nested, tiny)
    assert sums.loss_sum == pytest.approx(loss, rel=1e-5)
    assert (sums.r, sums.n_tokens, sums.n_examples) == (4, targets, 24)
    if sums.labels is None:
        assert task == "causal-lm"
        assert sums.metrics["token_accuracy"] == pytest.approx(token_accuracy(nested, tiny), rel=1e-6)
        return
    assert sums.labels.actual == [sum(actual == label for actual, _ in answers) for label in range(4)]
    assert sums.labels.predicted == [sum(predicted == label for _, predicted in answers) for label in range(4)]
    assert sums.labels.hits == [sum(pair == [label, label] for pair in answers) for label in range(4)]
    assert 0 < sum(sums.labels.hits) < 24


def test_shards_add_up_and_repeat_to_the_bit(tiny: Path):
    nested = ready(tiny, "causal-lm")
    whole, *parts = (evaluate(nested, tiny, shard) for shard in (range(24), range(10), range(10, 24)))
    assert sum(part.n_tokens for part in parts) == whole.n_tokens
    assert sum(part.loss_sum or 0 for part in parts) == pytest.approx(whole.loss_sum, rel=1e-6)
    assert evaluate(nested, tiny, range(10)) == parts[0]


def test_a_loss_that_is_not_finite_is_reported_as_null(tiny: Path):
    nested = ready(tiny, "sequence-classification")
    rows, dense = random_adapter(nested, 4)
    write(nested, 4, rows, dense * float("inf"))
    assert evaluate(nested, tiny, range(4)).loss_sum is None


ASKED = Evaluate("e", 1, 1, "global", None, [8], 2.0, 2, 3, 8, 0, [])


def test_a_shard_is_a_range_of_the_requested_examples(tiny: Path):
    spec = data_spec(tiny, "causal-lm", client_eval_examples=5)
    dataset = build_dataset(task_of(model_spec(tiny, "causal-lm"), tiny), spec, SEED, lambda _step, _steps: None)
    assert shard_of(dataset, ASKED) == range(2, 5)
    client, train = (replace(ASKED, examples=each, client_id="c01") for each in ("client", "train"))
    # 24 held out from all; c00 has 34 of which 5 are held out, and so has c01.
    assert shard_of(dataset, train) == range(24 + 34 + 2, 24 + 34 + 5)
    assert shard_of(dataset, client) == range(24 + 34 + 29 + 2, 24 + 34 + 29 + 5)
    with pytest.raises(ValueError, match=r"\b5 examples\b.*\bc01\b.*range\(3, 6\)"):
        shard_of(dataset, replace(client, start=3))
    with pytest.raises(ValueError, match=r"\b29 examples\b.*\bc01\b.*range\(27, 30\)"):
        shard_of(dataset, replace(train, start=27))
    with pytest.raises(ValueError, match=r"\b24 examples\b.*range\(22, 25\)"):
        shard_of(dataset, replace(ASKED, start=22))


@pytest.mark.parametrize(("examples", "client_id"), [("global", "c01"), ("client", None), ("train", None)])
def test_a_client_id_is_required_for_its_own_examples_only(tiny: Path, examples, client_id):
    with pytest.raises(ValueError, match=f"examples '{examples}': expected"):
        shard_of(dataset_of(tiny, "causal-lm"), replace(ASKED, examples=examples, client_id=client_id))
