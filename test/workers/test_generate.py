"""ROUGE-L of generated answers."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import payload, prompt_length, random_adapter, resident_of, tokens_of
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.task_runner import Resident, evaluate
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.training.generate import generate, score_answers
from prelort_worker.training.nested_lora import activate, read, write
from prelort_worker.training.train import train
from prelort_worker.wire.messages import Evaluate
from specs import FIT, SEED, data_spec
from sums import sums_at

EXAMPLES = range(24)
NEW_TOKENS = 8
TASK = Evaluate("e", 1, 1, "global", None, [2, 8], 2.0, 0, 24, 5, NEW_TOKENS, [])


def quiet(*_progress: object) -> None:
    pass


@cache
def trained(tiny: Path) -> Resident:
    """One that has learned something at rank 8: to say again a gloss, so that prompts differ in length."""
    resident = resident_of(tiny)
    spec = data_spec(tiny, "causal-lm", prompt="{gloss} :")
    resident.dataset = build_dataset(resident.nested.task, spec, SEED, quiet)
    nested, dataset = resident.nested, resident.dataset
    assert len({prompt_length(dataset, example) for example in EXAMPLES}) > 3
    write(nested, 8, *random_adapter(nested, 8))
    spec = replace(FIT, objective="none", local_steps=20)
    train(nested, 8, dataset, range(24, 160), spec, SEED, quiet)
    return resident


def tokenizer_of(resident: Resident) -> Any:
    assert isinstance(resident.nested.task, CausalLm)
    return resident.nested.task.tokenizer


def answers_of(resident: Resident, batch_size: int = 5, new_tokens: int = NEW_TOKENS, shard: range = EXAMPLES):
    nested, dataset = resident.nested, resident.dataset
    return generate(nested, 8, dataset, shard, batch_size, new_tokens, quiet)


@torch.no_grad()
def answer_by_hand(resident: Resident, example: int, forced: bool) -> str:
    """
    The likeliest next token again and again, one example at a time, without padding or cache: after its own answer so
    far or, `forced`, after the true one.
    """
    nested, dataset, tokenizer = resident.nested, resident.dataset, tokenizer_of(resident)
    activate(nested, 8)
    nested.model.eval()
    tokens, prompt = tokens_of(dataset, example).tolist(), prompt_length(dataset, example)
    answer: list[int] = []
    for step in range(len(tokens) - prompt if forced else NEW_TOKENS):
        before = tokens[: prompt + step] if forced else [*tokens[:prompt], *answer]
        answer.append(int(nested.model(input_ids=torch.tensor([before])).logits[0, -1].argmax()))
        if answer[-1] == tokenizer.eos_token_id and not forced:
            break
    return str(tokenizer.decode(answer, skip_special_tokens=True)).strip()


def rouge_l(reference: str, answer: str) -> float:
    """2PR / (P + R) of the longest common subsequence of words."""
    a, b = (re.findall("[a-z0-9]+", text.lower()) for text in (reference, answer))
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for row, word in enumerate(a):
        for column, another in enumerate(b):
            apart = max(longest[row][column + 1], longest[row + 1][column])
            longest[row + 1][column + 1] = longest[row][column] + 1 if word == another else apart
    common = longest[-1][-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def sum_by_hand(resident: Resident, forced: bool) -> float:
    dataset, tokenizer = resident.dataset, tokenizer_of(resident)
    references = [tokens_of(dataset, example)[prompt_length(dataset, example) :] for example in EXAMPLES]
    texts = [str(tokenizer.decode(tokens.tolist(), skip_special_tokens=True)) for tokens in references]
    return sum(
        rouge_l(text, answer_by_hand(resident, example, forced)) for text, example in zip(texts, EXAMPLES, strict=True)
    )


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_answers_are_greedy_and_do_not_depend_on_padding(tiny: Path, batch_size: int):
    resident = trained(tiny)
    expected = [answer_by_hand(resident, example, forced=False) for example in EXAMPLES]
    assert answers_of(resident, batch_size) == expected
    assert len(set(expected)) > 4


def test_rouge_l_scores_generated_not_teacher_forced_tokens(tiny: Path):
    resident = trained(tiny)
    found = score_answers(resident.nested, 8, resident.dataset, EXAMPLES, 5, NEW_TOKENS, quiet).rouge_l.sum().item()
    generated, forced = (sum_by_hand(resident, forced) for forced in (False, True))
    assert found == pytest.approx(generated, rel=1e-12)
    assert 1 < found < 24 and abs(found - forced) > 0.25


def test_answers_are_in_the_shards_order_whatever_their_lengths(tiny: Path):
    resident = trained(tiny)
    whole = answers_of(resident, batch_size=1)
    assert answers_of(resident, batch_size=1, shard=range(9, 17)) == whole[9:17]


def test_an_answer_ends_at_the_models_last_position(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    resident = trained(tiny)
    base: Any = resident.nested.model.get_base_model()
    longest = max(prompt_length(resident.dataset, example) for example in range(4))
    whole, asked = base.generate, []

    def recorded(**settings: Any) -> torch.Tensor:
        asked.append(settings["max_new_tokens"])
        return whole(**settings)

    monkeypatch.setattr(base, "generate", recorded)
    answers_of(resident, new_tokens=1000, shard=range(4))
    answers_of(resident, new_tokens=3, shard=range(4))
    assert asked == [base.config.max_position_embeddings - longest, 3]


def test_a_checkpoints_generation_settings_are_ignored(tiny: Path):
    resident = trained(tiny)
    plain = answers_of(resident)
    base = resident.nested.model.get_base_model()
    base.generation_config.update(repetition_penalty=20.0, no_repeat_ngram_size=1, min_new_tokens=8)  # pyright: ignore
    assert answers_of(resident) == plain


def test_an_evaluation_generates_at_each_requested_rank_and_on_a_merged_base(tiny: Path):
    resident = trained(tiny)
    rows, _ = read(resident.nested, 8)
    reported: list[tuple[str, int, int]] = []
    by_rank = sums_at([2, 8], evaluate(resident, TASK, payload(rows=rows), lambda *told: reported.append(told)))
    scores = [tier.rouge_l_sum for tier in by_rank]
    assert scores[1] == pytest.approx(sum_by_hand(resident, forced=False)) and scores[0] != scores[1]
    assert {activity for activity, _, _ in reported} == {
        "evaluate rank 2",
        "generate rank 2",
        "evaluate rank 8",
        "generate rank 8",
    }
    assert all(0 <= step < steps for _, step, steps in reported)
    alone = replace(TASK, ranks=[2])
    merged = sums_at([2], evaluate(resident, alone, payload(rows=rows[:2] * 0, merged=rows), quiet))
    assert merged[0].rouge_l_sum == scores[1]
    silent = sums_at([2, 8], evaluate(resident, replace(TASK, max_new_tokens=0), payload(rows=rows), quiet))
    assert [tier.metrics.pop("exact_match") for tier in by_rank] == [0.0, 0.0]
    assert silent == [replace(tier, rouge_l_sum=None) for tier in by_rank]


def test_a_classifier_generates_nothing(tiny: Path):
    resident = resident_of(tiny, "sequence-classification")
    rows, dense = random_adapter(resident.nested, 8)
    expected = "max_new_tokens: expected 0 for sequence-classification"
    with pytest.raises(ValueError, match=expected):
        evaluate(resident, TASK, payload(rows=rows, dense=dense), quiet)


def test_an_exact_match_is_an_answer_that_is_the_reference(tiny: Path):
    resident = trained(tiny)
    dataset, tokenizer, task = resident.dataset, tokenizer_of(resident), resident.nested.task
    assert isinstance(task, CausalLm)
    references = [
        str(
            tokenizer.decode(
                tokens_of(dataset, each)[prompt_length(dataset, each) :].tolist(), skip_special_tokens=True
            )
        )
        for each in EXAMPLES
    ]
    pairs = zip(answers_of(resident), references, strict=True)
    expected = sum(answer.strip() == reference.strip() for answer, reference in pairs)
    found = score_answers(resident.nested, 8, dataset, EXAMPLES, 5, NEW_TOKENS, quiet)
    assert {name: each.sum().item() for name, each in found.own.items()} == {"exact_match": float(expected)}
    assert task.score(" a sweet dish\n", "a sweet dish") == {"exact_match": 1.0}
    assert task.score("a dish", "a sweet dish") == {"exact_match": 0.0}


def test_samples_are_the_first_examples_of_the_range_with_each_ranks_answer(tiny: Path):
    resident = trained(tiny)
    dataset, tokenizer = resident.dataset, tokenizer_of(resident)
    rows = read(resident.nested, 8)[0]
    asked = replace(TASK, start=3, count=5, samples=2)
    samples = evaluate(resident, asked, payload(rows=rows), quiet)[0].samples
    assert len(samples) == 2
    by_rank = []
    for r in (2, 8):
        write(resident.nested, r, rows[:r], torch.zeros(0))
        by_rank.append(generate(resident.nested, r, dataset, range(3, 8), 5, NEW_TOKENS, quiet)[:2])
    for index, sample in enumerate(samples):
        tokens, prompt = tokens_of(dataset, 3 + index).tolist(), prompt_length(dataset, 3 + index)
        assert sample.prompt == tokenizer.decode(tokens[:prompt], skip_special_tokens=True).strip()
        assert sample.reference == tokenizer.decode(tokens[prompt:], skip_special_tokens=True).strip()
        assert sample.answers == [answers[index] for answers in by_rank]
    assert evaluate(resident, replace(asked, max_new_tokens=0), payload(rows=rows), quiet)[0].samples == []
