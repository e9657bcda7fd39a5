"""The prepare task: from a JSONL file to the dataset that every worker reads."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_for_tests import CPU, dataset_of, prompt_length, task_of, tokens_of
from prelort_worker.errors import InputError, UnpreparedError
from prelort_worker.prepare.partition import hold_out, owned_values, partition, partition_dirichlet
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.prepared_dataset import PreparedDataset, open_dataset, read_dataset
from prelort_worker.tasks.text import IGNORED
from prelort_worker.training.batches import collate
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import PartitionSpec
from specs import IID, LORA, SEED, data_spec, model_spec
from told import Told, prepare

DIRICHLET = PartitionSpec("dirichlet", "topic", 0.5, 8, None, None)
VALUE = PartitionSpec("value", "topic", None, 1, None, None)


def run(tiny: Path, cache: Path, task: str = "sequence-classification", seed: str = SEED, **changes: Any) -> Told:
    message = Prepare("p", 1, seed, model_spec(tiny, task), LORA, data_spec(tiny, task, **changes), str(cache))
    return prepare(message, CPU, lambda _step, _steps: None)


def write_lines(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def build(tiny: Path, task: str, **changes: Any) -> tuple[PreparedDataset, Any]:
    found: Any = task_of(model_spec(tiny, task), tiny, **changes)
    return build_dataset(found, data_spec(tiny, task, **changes), SEED, lambda _step, _steps: None), found.tokenizer


def test_the_same_data_and_seed_give_the_same_file_whatever_the_cache(tiny: Path, tmp_path: Path):
    first, second = run(tiny, tmp_path / "one"), run(tiny, tmp_path / "two")
    assert first.index.sha256 == second.index.sha256
    assert Path(first.index.path).name == Path(second.index.path).name
    assert run(tiny, tmp_path / "one", seed="f" * 32).index.path != first.index.path


def test_a_prepared_file_is_reused_and_a_damaged_one_rewritten(tiny: Path, tmp_path: Path):
    first = run(tiny, tmp_path)
    path = Path(first.index.path)
    os.utime(path, ns=(1, 1))
    assert run(tiny, tmp_path) == first
    assert path.stat().st_mtime_ns == 1
    whole = path.read_bytes()
    for broken in (whole[:-8], whole[:-1] + bytes([whole[-1] ^ 1]), b"not a dataset"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="expected sha256"):
            open_dataset(path, first.index.sha256)
        assert run(tiny, tmp_path) == first
        assert path.read_bytes() == whole
    path.chmod(0o644)
    run(tiny, tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_changed_data_gives_another_file(tiny: Path, tmp_path: Path):
    source = tmp_path / "topics.jsonl"
    source.write_bytes((tiny / "topics.jsonl").read_bytes())
    before = run(tiny, tmp_path, path=str(source))
    source.write_bytes(source.read_bytes() + b'{"text": "a kind of fur", "topic": "zoo"}\n')
    after = run(tiny, tmp_path, path=str(source))
    assert after.index.path != before.index.path
    assert after.labels == [*before.labels, "zoo"]


def test_clients_hold_disjoint_examples_and_the_reply_counts_them(tiny: Path, tmp_path: Path):
    prepared = run(tiny, tmp_path, clients=11, partition=replace(IID, min_examples=5))
    assert [client.id for client in prepared.clients] == [f"c{index:02d}" for index in range(11)]
    assert prepared.n_eval == 24 and sum(client.n for client in prepared.clients) == 160 - 24
    assert all(sum(client.label_counts) == client.n for client in prepared.clients)
    assert prepared.labels == ["animal", "food", "tool", "weather"]
    dataset = read_dataset(Path(prepared.index.path))
    ranges = [dataset.held_out, *(dataset.of_client(client.id) for client in prepared.clients)]
    assert [index for part in ranges for index in part] == list(range(160))
    counts = [
        np.bincount(dataset.fields["labels"][part.start : part.stop], minlength=4).tolist() for part in ranges[1:]
    ]
    assert counts == [client.label_counts for client in prepared.clients]


def test_every_example_is_stored_once(tiny: Path):
    dataset, tokenizer = build(tiny, "causal-lm", partition=DIRICHLET)
    lines = [json.loads(line) for line in (tiny / "words.jsonl").read_text().splitlines()]
    expected = sorted(f"Define the noun {line['word']} : {line['gloss']} </s>" for line in lines)
    assert sorted(tokenizer.decode(tokens_of(dataset, index)) for index in range(160)) == expected


@given(n=st.integers(1, 60), clients=st.integers(1, 8), alpha=st.floats(0.05, 10), seed=st.integers(0, 99))
def test_a_partition_covers_every_example_once(n: int, clients: int, alpha: float, seed: int):
    rng = np.random.default_rng(seed)
    values = [str(value) for value in rng.integers(0, 4, n)]
    parts = partition_dirichlet(values, clients, alpha, 0, rng)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n)) and len(parts) == clients


def test_dirichlet_gives_every_client_its_minimum_or_says_what_to_change():
    values = [str(index % 4) for index in range(100)]
    parts = partition(DIRICHLET, values, len(values), 5, np.random.default_rng(0))
    assert min(map(len, parts)) >= 8 and len(set(map(len, parts))) > 1
    full = partition(replace(DIRICHLET, min_examples=20), values, len(values), 5, np.random.default_rng(0))
    assert [len(part) for part in full] == [20] * 5
    with pytest.raises(InputError, match=r"\b105 training examples\b.*\b100$"):
        partition(replace(DIRICHLET, min_examples=21), values, len(values), 5, np.random.default_rng(0))


def examples_of(dataset: PreparedDataset, part: range) -> list[list[int]]:
    return [tokens_of(dataset, index).tolist() for index in part]


def test_a_clients_own_held_out_examples_are_removed_from_its_training_only(tiny: Path, tmp_path: Path):
    plain = run(tiny, tmp_path, partition=DIRICHLET)
    prepared = run(tiny, tmp_path, partition=DIRICHLET, client_eval_examples=6)
    before, after = read_dataset(Path(plain.index.path)), read_dataset(Path(prepared.index.path))
    assert examples_of(after, after.held_out) == examples_of(before, before.held_out)
    for old, new in zip(plain.clients, prepared.clients, strict=True):
        assert (old.n_eval, new.n_eval, new.n) == (0, 6, old.n - 6)
        whole = examples_of(before, before.of_client(old.id))
        training = examples_of(after, after.of_client(old.id))
        held_out = examples_of(after, after.held_out_of(old.id))
        assert sorted([*training, *held_out]) == sorted(whole)
        rest = iter(whole)
        assert all(example in rest for example in training), "the training examples keep their order"
        own = after.of_client(old.id)
        labels = after.fields["labels"][own.start : own.stop]
        assert np.bincount(labels, minlength=4).tolist() == new.label_counts
    assert run(tiny, tmp_path / "again", partition=DIRICHLET, client_eval_examples=6).index.sha256 == (
        prepared.index.sha256
    )


def test_held_out_examples_are_drawn_at_random():
    parts = [np.arange(100), np.arange(100, 130)]
    divided = hold_out(parts, 10, np.random.default_rng(0))
    for part, (training, held_out) in zip(parts, divided, strict=True):
        assert sorted([*training, *held_out]) == part.tolist()
        assert len(held_out) == 10 and held_out.tolist() != part[:10].tolist()
    for part, (training, held_out) in zip(parts, hold_out(parts, 0, np.random.default_rng(0)), strict=True):
        assert training.tolist() == part.tolist() and held_out.tolist() == []


def test_a_client_without_training_examples_is_named(tiny: Path):
    build(tiny, "causal-lm", client_eval_examples=33)
    with pytest.raises(InputError, match=r"\bc00\b.*\b35\b.*\b34\b"):
        build(tiny, "causal-lm", client_eval_examples=34)


def test_by_value_client_k_holds_the_kth_most_frequent_value_and_others_are_unused(tiny: Path):
    counts = Counter(json.loads(line)["topic"] for line in (tiny / "topics.jsonl").read_text().splitlines())
    ranked = sorted(counts, key=lambda topic: (-counts[topic], topic))
    dataset, _ = build(tiny, "sequence-classification", clients=3, partition=VALUE, client_eval_examples=2)
    labels = dataset.fields["labels"]
    seen = {topic: int((labels == dataset.info.labels.index(topic)).sum()) for topic in ranked}
    assert seen == {**{topic: counts[topic] for topic in ranked[:3]}, ranked[3]: 0}
    for topic, client_id in zip(ranked[:3], ["c00", "c01", "c02"], strict=True):
        own = [*dataset.of_client(client_id), *dataset.held_out_of(client_id)]
        assert {dataset.info.labels[int(labels[index])] for index in own} == {topic}


def test_values_are_ranked_over_the_whole_file_and_ties_by_text():
    assert owned_values(VALUE, ["b", "c", "a", "c", "d"], 3) == ["c", "a", "b"]
    with pytest.raises(InputError, match=r"\b3 clients\b.*\bvalue\b.*\b2\b"):
        owned_values(VALUE, ["b", "a", "a"], 3)


def test_a_value_without_training_examples_is_reported_by_client(tiny: Path, tmp_path: Path):
    lines = [json.dumps({"word": "w01", "gloss": "fur", "topic": topic}) for topic in ["a", "a", "a", "b"]]
    path = write_lines(tmp_path / "few.jsonl", *lines)
    with pytest.raises(InputError, match=r"\bc01\b.*\b1\b.*\b0\b"):
        build(tiny, "causal-lm", path=path, clients=2, partition=VALUE, eval_examples=0, max_examples=1)


def test_labels_do_not_depend_on_the_examples_drawn(tiny: Path, tmp_path: Path):
    prepared = run(tiny, tmp_path, max_examples=4)
    assert sum(client.n for client in prepared.clients) == 4
    assert prepared.labels == ["animal", "food", "tool", "weather"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ['{"text": "fur", "topic": "a"}', '{"text": "paw"}'],
            r":2: .*'topic'.*\bdata\.label\b.*: text$",
        ),
        (['{"topic": "a"}'], r":1: .*'text'.*\bdata\.text\b.*: topic\b"),
        (['{"text": "fur", "topic": "a"}', "", "{text: fur}"], r":3: .*\bJSON\b"),
        (['["fur"]'], r":1: expected a JSON object, got \[\"fur\"\]"),
        (['{"text": null, "topic": "a"}'], r":1: column 'text' \(data\.text\) .*\bnull\b"),
        (["", " "], r": .*\bno examples\b"),
        (['{"text": "", "topic": "a"}', '{"text": "fur", "topic": "b"}'], r":1: gives a text without a token"),
    ],
)
def test_data_that_cannot_be_used_is_named_by_file_and_line(tiny: Path, tmp_path: Path, lines: list[str], reason: str):
    path = write_lines(tmp_path / "bad.jsonl", *lines)
    with pytest.raises(InputError, match=f"bad.jsonl{reason}"):
        build(tiny, "sequence-classification", path=path, clients=1, eval_examples=0)


def test_a_missing_file_and_too_many_held_out_examples_are_reported(tiny: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl: "):
        run(tiny, tmp_path, path="nowhere.jsonl")
    with pytest.raises(InputError, match=r"\b160\b.*\b160 examples\b"):
        run(tiny, tmp_path, eval_examples=160)


@pytest.mark.parametrize("template", ["{text!r}", "{text:>9}", "{text[0]}", "{}"])
def test_a_template_takes_only_column_names(tiny: Path, template: str):
    with pytest.raises(InputError, match=r"data\.text: .*\{text\}"):
        build(tiny, "sequence-classification", text=template)


def test_a_dot_reads_inside_maps_and_lists_but_not_text(tiny: Path):
    with pytest.raises(InputError, match=r"column 'text\.real' \(data\.text\) .*\bmap or a list\b"):
        build(tiny, "sequence-classification", text="{text.real}")


def causal_example(tiny: Path, tmp_path: Path, max_length: int, **columns: str):
    path = write_lines(tmp_path / "one.jsonl", json.dumps(columns), json.dumps(columns))
    dataset, tokenizer = build(tiny, "causal-lm", path=path, clients=1, eval_examples=1, max_length=max_length)
    return tokenizer.decode(tokens_of(dataset, 0)), prompt_length(dataset, 0), dataset.info.n_truncated


@pytest.mark.parametrize(
    ("max_length", "text", "prompt", "cut"),
    [
        (32, "Define the noun w01 : fur paw tail </s>", 5, 0),
        (9, "Define the noun w01 : fur paw tail </s>", 5, 0),
        (8, "the noun w01 : fur paw tail </s>", 4, 2),
        (6, "noun w01 : fur paw tail", 3, 2),
        (2, ": fur", 1, 2),
    ],
)
def test_a_long_example_loses_the_start_of_its_prompt_then_the_end_of_its_answer(
    tiny: Path, tmp_path: Path, max_length: int, text: str, prompt: int, cut: int
):
    assert causal_example(tiny, tmp_path, max_length, word="w01", gloss="fur paw tail") == (text, prompt, cut)


def test_the_loss_covers_only_the_answer_and_its_end(tiny: Path):
    dataset = dataset_of(tiny, "causal-lm")
    tensors = collate(task_of(model_spec(tiny, "causal-lm"), tiny), dataset, [0, 1, 2], CPU).tensors
    labels = tensors["labels"]
    for row in range(3):
        tokens, prompt = tokens_of(dataset, row), prompt_length(dataset, row)
        assert prompt == 5, "Define the noun WORD :"
        assert labels[row, :prompt].eq(IGNORED).all() and labels[row, len(tokens) :].eq(IGNORED).all()
        assert labels[row, prompt : len(tokens)].tolist() == tokens[prompt:].tolist()
        assert tensors["attention_mask"][row].sum() == len(tokens)
    assert tensors["input_ids"].shape[1] == max(len(tokens_of(dataset, row)) for row in range(3))


def test_an_index_with_another_hash_is_refused(tiny: Path, tmp_path: Path):
    prepared = run(tiny, tmp_path)
    with pytest.raises(InputError, match=f"expected sha256 {'0' * 64}, got {prepared.index.sha256}"):
        open_dataset(Path(prepared.index.path), "0" * 64)


def test_an_index_that_is_not_on_this_machine_is_told_apart(tmp_path: Path):
    with pytest.raises(UnpreparedError, match="gone"):
        open_dataset(tmp_path / "gone", "0" * 64)


def test_a_single_label_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "one.jsonl", *['{"text": "fur and paw", "topic": "animal"}'] * 40)
    with pytest.raises(InputError, match=r"\blabels\b.*\banimal\b"):
        build(tiny, "sequence-classification", path=path)


def test_a_mix_lists_the_most_frequent_values_and_the_rest_as_others(tiny: Path, tmp_path: Path):
    rows = [
        {"text": "a kind of fur", "topic": topic, "office": f"o{index % 90:02d}"}
        for index, topic in enumerate(["animal", "food"] * 200)
    ]
    path = write_lines(tmp_path / "many.jsonl", *(json.dumps(row) for row in rows))
    by_office = PartitionSpec("dirichlet", "office", 100.0, 8, None, None)
    prepared = run(tiny, tmp_path, path=path, clients=2, partition=by_office)
    for client in prepared.clients:
        assert len(client.mix) == 60 and client.mix[-1].value == "others"
        assert sum(share.n for share in client.mix) == client.n
        counts = [share.n for share in client.mix[:-1]]
        assert counts == sorted(counts, reverse=True)
