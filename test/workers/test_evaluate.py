"""Sums over shards of the held-out examples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import (
    dataset_of,
    nested_of,
    payload,
    prompt_length,
    quiet,
    random_adapter,
    resident_of,
    task_of,
    tokens_of,
)
from prelort_worker.errors import InputError
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.task_runner import evaluate as evaluate_task
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.training.evaluate import evaluate_tier, shard_of, spelled_bytes
from prelort_worker.training.example_values import ExampleValues
from prelort_worker.training.nested_lora import NestedLora, activate, write
from prelort_worker.wire.messages import Evaluate
from specs import SEED, TASKS, data_spec, model_spec
from sums import Sums, sums_of
from sums import values_of as received_values
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


@torch.no_grad()
@pytest.mark.parametrize("task", TASKS)
def test_each_examples_values_are_those_of_the_model_on_it_alone(tiny: Path, task: str):
    nested, dataset = ready(tiny, task), dataset_of(tiny, task)
    # Not the order of lengths, in which they are computed, nor a whole number of batches.
    found = values_of(nested, tiny, range(3, 17))
    activate(nested, 4)
    expected: dict[str, list[float]] = {name: [] for name in found.columns}
    for example in range(3, 17):
        tokens = tokens_of(dataset, example)
        logits = nested.model(input_ids=tokens[None]).logits[0]
        if task == "causal-lm":
            prompt = prompt_length(dataset, example)
            told = (
                functional.cross_entropy(logits[prompt - 1 : -1], tokens[prompt:], reduction="sum"),
                len(tokens) - prompt,
            )
            answered: tuple[float, ...] = ()
        else:
            actual = dataset.fields["labels"][example]
            told = functional.cross_entropy(logits, actual), 1
            chances = logits.softmax(-1)
            answered = (int(chances.argmax()), int(actual), float(chances.max()))
        for name, value in zip(expected, (*told, *answered), strict=True):
            expected[name].append(float(value))
    names = ["loss", "targets"] if task == "causal-lm" else ["loss", "targets", "predicted", "actual", "confidence"]
    assert list(found.columns) == names
    for name, values in found.columns.items():
        assert values.dtype == torch.float64 and values.tolist() == pytest.approx(expected[name], rel=1e-5), name


def test_bits_per_byte_are_over_the_bytes_of_the_answers(tiny: Path):
    nested, dataset = nested_of(tiny, "causal-lm"), dataset_of(tiny, "causal-lm")
    task = nested.task
    assert isinstance(task, CausalLm)
    answers = [
        str(task.tokenizer.decode(tokens_of(dataset, each)[prompt_length(dataset, each) :], skip_special_tokens=True))
        for each in range(5)
    ]
    assert spelled_bytes(task, dataset, range(5))["bytes"].tolist() == [len(answer.encode()) for answer in answers]
    classifier = nested_of(tiny, "sequence-classification")
    assert spelled_bytes(classifier.task, dataset_of(tiny, "sequence-classification"), range(5)) == {}


def test_of_whole_texts_the_first_token_is_no_target_and_spells_nothing(tiny: Path):
    task = nested_of(tiny, "causal-lm").task
    tokens = torch.tensor(task.tokenizer("a sweet dish", add_special_tokens=False)["input_ids"])  # pyright: ignore
    example = {"input_ids": tokens, "learned": torch.ones(len(tokens), dtype=torch.bool)}
    assert isinstance(task, CausalLm)
    assert task.spelled(example).tolist() == tokens[1:].tolist()


def test_the_values_of_all_ranks_travel_as_one_tensor(tiny: Path):
    resident = resident_of(tiny, "sequence-classification")
    rows, dense = random_adapter(resident.nested, 8)
    asked = replace(ASKED, ranks=[4, 8], start=0, count=5)
    told, sent = evaluate_task(resident, asked, payload(rows=rows, dense=dense), quiet)
    assert (told.columns, told.metrics) == (["loss", "targets", "predicted", "actual", "confidence"], [])
    assert sent["examples"].shape == (5, 2 * 5) and sent["examples"].dtype == "F64"
    for r, found in zip((4, 8), received_values(told, sent, [4, 8]), strict=True):
        write(resident.nested, r, rows[:r], dense)
        alone = evaluate_tier(resident.nested, r, resident.dataset, range(5), 8, quiet)
        assert {name: each.tolist() for name, each in found.columns.items()} == {
            name: each.tolist() for name, each in alone.columns.items()
        }


def test_a_task_whose_targets_do_not_add_up_is_reported(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    nested = ready(tiny, "sequence-classification")
    monkeypatch.setattr(nested.task, "count_targets", lambda batch: 1)
    with pytest.raises(InputError, match=r"count_targets.*\b5, got 1\b"):
        evaluate(nested, tiny, range(5))
