"""Which client holds which example."""

import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from prelort_worker.errors import InputError
from prelort_worker.prepare.partition import (
    Indices,
    indices_by_value,
    owned_values,
    partition,
    partition_dirichlet,
    top_up,
    values_of,
)
from prelort_worker.prepared_dataset import read_dataset
from prelort_worker.rows.row import Row
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import PartitionSpec
from specs import IID, LORA, SEED, data_spec, model_spec
from told import Told, prepare

SIZE = PartitionSpec("size", None, 0.5, 1, None, None)
SHARES = PartitionSpec("size", None, None, 1, [1, 2, 1], None)
PATHOLOGICAL = PartitionSpec("pathological", "topic", None, 1, None, 2)
VALUE = PartitionSpec("value", "topic", None, 1, None, None)
FILES = PartitionSpec("files", "file", None, 1, None, None)
DIRICHLET = PartitionSpec("dirichlet", "topic", 0.5, 1, None, None)
VALUE_OF_T = PartitionSpec("value", "t", None, 1, None, None)


def parts_of(spec: PartitionSpec, values: list[str], clients: int | None, seed: int = 0) -> list[list[int]]:
    parts = partition(spec, values, len(values), clients, np.random.default_rng(seed))
    return [part.tolist() for part in parts]


def is_a_cover(parts: list[list[int]], n: int) -> bool:
    return all(part == sorted(part) for part in parts) and sorted(index for part in parts for index in part) == list(
        range(n)
    )


# fmt: off
BEFORE = [
    (IID, 4, [[2, 6, 7, 9, 11, 19, 23, 24], [1, 3, 12, 16, 17, 25, 27, 29], [4, 10, 15, 18, 20, 26, 28],
              [0, 5, 8, 13, 14, 21, 22]]),
    (PartitionSpec("dirichlet", "t", 0.7, 3, None, None), 4,
     [[5, 9, 12, 14, 16, 21, 23, 26, 28], [0, 2, 7, 18], [1, 15, 17, 22, 25, 27],
      [3, 4, 6, 8, 10, 11, 13, 19, 20, 24, 29]]),
    (PartitionSpec("dirichlet", "t", 2.0, 1, None, None), 7,
     [[20], [2, 13, 15, 21, 24], [5, 8, 14, 18, 19, 27, 28], [23, 25, 29], [1, 12, 16, 26], [3, 4, 6],
      [0, 7, 9, 10, 11, 17, 22]]),
]
# fmt: on


@pytest.mark.parametrize(("spec", "clients", "expected"), BEFORE)
def test_a_seed_gives_the_same_partition_as_in_earlier_versions(spec: PartitionSpec, clients: int, expected: Any):
    values = [f"v{index * index % 7 % 4}" for index in range(30)]
    assert parts_of(spec, values, clients, seed=5) == expected


def test_sizes_are_proportional_to_shares():
    assert [len(part) for part in parts_of(SHARES, [""] * 40, None)] == [10, 20, 10]
    assert [len(part) for part in parts_of(SHARES, [""] * 40, 3)] == [10, 20, 10]
    tenths = replace(SHARES, shares=[0.1] * 10)
    assert [len(part) for part in parts_of(tenths, [""] * 100, None)] == [10] * 10
    parts = parts_of(SHARES, [""] * 7, 3)
    assert is_a_cover(parts, 7) and parts != parts_of(SHARES, [""] * 7, 3, seed=1)


@given(n=st.integers(3, 200), shares=st.lists(st.floats(0.5, 2), min_size=1, max_size=3))
def test_a_size_is_within_one_example_of_its_share(n: int, shares: list[float]):
    parts = parts_of(replace(SHARES, shares=shares, min_examples=1), [""] * max(n, 12), None)
    n = max(n, 12)
    assert is_a_cover(parts, n)
    assert all(abs(len(part) - n * share / sum(shares)) <= 1 for part, share in zip(parts, shares, strict=True))


def test_a_share_too_small_is_named():
    few = replace(SHARES, shares=[1, 8, 1], min_examples=5)
    with pytest.raises(InputError, match=r"\b1\b.*\bclient 1 of 3\b.*\b4 of 40\b.*\b5\b"):
        parts_of(few, [""] * 40, 3)
    with pytest.raises(InputError, match=r"\b4 data\.clients\b.*\b3$"):
        parts_of(SHARES, [""] * 40, 4)


@pytest.mark.parametrize("spec", [SIZE, DIRICHLET])
@given(
    clients=st.integers(1, 9),
    minimum=st.integers(1, 9),
    spare=st.integers(0, 40),
    alpha=st.floats(0.001, 100),
    seed=st.integers(0, 99),
)
@example(clients=8, minimum=2, spare=24, alpha=0.3125, seed=0)
def test_a_possible_minimum_is_met(
    spec: PartitionSpec, clients: int, minimum: int, spare: int, alpha: float, seed: int
):
    n = clients * minimum + spare
    values = [f"v{index * index % 5}" for index in range(n)]
    spec = replace(spec, alpha=alpha, min_examples=minimum)
    parts = parts_of(spec, values, clients, seed)
    assert is_a_cover(parts, n) and len(parts) == clients and min(map(len, parts)) >= minimum
    assert parts == parts_of(spec, values, clients, seed)
    with pytest.raises(InputError, match=rf"\b{(n + 1) * clients} training examples\b.*\b{n}$"):
        parts_of(replace(spec, min_examples=n + 1), values, clients, seed)


def test_clients_below_the_minimum_take_from_the_client_with_the_most():
    parts = [np.array(each, np.int64) for each in ([0, 1, 2, 3, 4, 5], [6], [], [7, 8, 9, 10])]
    topped = top_up(parts, 2, np.random.default_rng(0))
    assert [len(part) for part in topped] == [3, 2, 2, 4]
    assert is_a_cover([part.tolist() for part in topped], 11)
    assert topped[3].tolist() == [7, 8, 9, 10] and 6 in topped[1]
    taken = {
        tuple(sorted({*range(6)} - {*top_up(parts, 2, np.random.default_rng(seed))[0].tolist()})) for seed in range(40)
    }
    assert len(taken) > 10, "which examples go is drawn"


def test_nothing_is_drawn_if_no_client_is_below_the_minimum():
    rng = np.random.default_rng(0)
    assert [part.tolist() for part in top_up([np.array([2, 0]), np.array([1])], 1, rng)] == [[0, 2], [1]]
    assert rng.random() == np.random.default_rng(0).random()


BY_VALUE = [PATHOLOGICAL, DIRICHLET, VALUE, FILES]


def test_values_are_compared_as_python_strings():
    values = ["a", "a\0", "a\0\0", "", "\0", "a", "A", "é", "e\u0301"]
    assert parts_of(VALUE, values, None) == [[0, 5], [3], [4], [6], [1], [2], [8], [7]]
    for spec in BY_VALUE:
        clients = None if spec in (VALUE, FILES) else 4
        parts = parts_of(replace(spec, min_examples=0), values * 20, clients)
        assert is_a_cover(parts, len(values) * 20)


@pytest.mark.parametrize("spec", BY_VALUE)
def test_one_long_value_takes_memory_only_for_itself(spec: PartitionSpec):
    """A fixed-width array of these would take 4 TB."""
    values = [f"v{index % 50}" for index in range(100_000)]
    values[70_000] = "x" * 10_000_000
    clients = None if spec in (VALUE, FILES) else 51
    tracemalloc.start()
    try:
        parts = partition(replace(spec, per_client=1), values, len(values), clients, np.random.default_rng(0))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert is_a_cover([part.tolist() for part in parts], len(values))
    assert most < 50_000_000
    if spec is not DIRICHLET:
        assert [70_000] in [part.tolist() for part in parts]


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), ("1", "1"), (1.0, "1.0"), (True, "true"), ("True", "True"), (-0.0, "-0.0"), ("", "")]
)
def test_the_partitions_values_are_text_with_numbers_as_in_json(value: object, text: str):
    assert values_of(VALUE_OF_T, [Row("a.jsonl:1", {"t": value})]) == [text]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_a_row_without_a_value_for_the_partition_is_refused(value: object):
    with pytest.raises(InputError, match=r"a\.jsonl:1: column 't' \(data\.partition\.by\) "):
        values_of(VALUE_OF_T, [Row("a.jsonl:1", {"t": value})])


def test_a_smaller_alpha_makes_sizes_differ_more():
    spread = {
        alpha: np.mean(
            [
                np.std([len(part) for part in parts_of(replace(SIZE, alpha=alpha), [""] * 400, 5, seed)])
                for seed in range(20)
            ]
        )
        for alpha in (0.5, 5, 500)
    }
    assert spread[0.5] > 2 * spread[5] > 4 * spread[500]


def test_an_impossible_minimum_is_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"\b99 training examples\b.*\b90$"):
        parts_of(replace(SIZE, min_examples=11), [""] * 90, 9)


def test_labels_are_iid_whatever_the_sizes():
    values = ["a"] * 2000 + ["b"] * 2000
    for part in parts_of(replace(SHARES, shares=[1, 3]), values, 2):
        assert abs(np.mean([values[index] == "a" for index in part]) - 0.5) < 0.05


def test_pathological_by_hand():
    values = list("aabbccdd")
    parts = parts_of(replace(PATHOLOGICAL, per_client=2), values, 2)
    assert is_a_cover(parts, 8) and [len(part) for part in parts] == [4, 4]
    assert [len({values[index] for index in part}) for part in parts] == [2, 2]
    # Each of the four values is held by both clients: one example each.
    assert [
        sorted(values[index] for index in part) for part in parts_of(replace(PATHOLOGICAL, per_client=4), values, 2)
    ] == [
        list("abcd"),
        list("abcd"),
    ]


@given(data=st.data(), kinds=st.integers(1, 6), clients=st.integers(1, 9), seed=st.integers(0, 99))
def test_clients_hold_equally_many_values_and_values_have_equally_many_clients(
    data: st.DataObject, kinds: int, clients: int, seed: int
):
    per_client = data.draw(st.integers(-(-kinds // clients), kinds))
    values = [f"v{index % kinds}" for index in range(kinds * 10 + 3)]
    spec = replace(PATHOLOGICAL, per_client=per_client)
    parts = parts_of(spec, values, clients, seed)
    assert parts == parts_of(spec, values, clients, seed)
    assert is_a_cover(parts, len(values)) and len(parts) == clients
    held = [Counter(values[index] for index in part) for part in parts]
    assert [len(counts) for counts in held] == [per_client] * clients
    holders = Counter(value for counts in held for value in counts)
    assert max(holders.values()) - min(holders.values()) <= 1 and len(holders) == kinds
    for value in holders:
        sizes = [counts[value] for counts in held if value in counts]
        assert max(sizes) - min(sizes) <= 1


def test_which_clients_share_values_is_drawn():
    values = [f"v{index % 6}" for index in range(60)]
    held = {
        tuple(tuple(sorted({values[index] for index in part})) for part in parts_of(PATHOLOGICAL, values, 3, seed))
        for seed in range(10)
    }
    assert len(held) > 5


@pytest.mark.parametrize(
    ("per_client", "clients", "reason"),
    [
        (5, 4, r"\b5 values\b.*\b4\b"),
        (1, 3, r"\b3 clients\b.*\b1 values\b.*\b4 values\b.*per_client"),
        (4, 3, r"\b3 clients\b.*'b'.*\b2 training examples\b"),
    ],
)
def test_an_impossible_pathological_partition_is_refused_with_the_numbers(per_client: int, clients: int, reason: str):
    with pytest.raises(InputError, match=reason):
        parts_of(replace(PATHOLOGICAL, per_client=per_client), list("aaabbcccddd"), clients)


def test_the_partitions_value_and_files_have_one_client_per_value_unless_fewer_are_requested():
    values = ["b", "c", "a", "c", "d"]
    assert owned_values(VALUE, values, None) == ["c", "a", "b", "d"]
    assert owned_values(FILES, values, None) == ["a", "b", "c", "d"]
    assert owned_values(FILES, values, 2) == ["a", "b"]
    assert owned_values(IID, values, None) is None
    assert parts_of(VALUE, values, None) == [[1, 3], [2], [0], [4]]
    assert parts_of(FILES, values, None) == [[2], [0], [1, 3], [4]]
    with pytest.raises(InputError, match=r"\b5 clients\b.*\bfile\b.*\b4\b"):
        owned_values(FILES, values, 5)


def test_clients_come_from_the_whole_data_even_if_the_sample_leaves_some_without_examples():
    parts = partition(VALUE, ["a", "a"], 2, None, np.random.default_rng(0), owned=["b", "a"])
    assert [part.tolist() for part in parts] == [[], [0, 1]]


@pytest.mark.parametrize("spec", [IID, SIZE, PATHOLOGICAL])
def test_a_partition_that_does_not_determine_the_number_of_clients_requires_it(spec: PartitionSpec):
    with pytest.raises(InputError, match=rf"\b{spec.name}\b"):
        parts_of(spec, ["a"] * 20, None)


def test_files_need_a_folder():
    with pytest.raises(InputError, match=r"a\.csv:2: .*\bfiles\b"):
        values_of(FILES, [Row("a.csv:2", {"text": "x"})])


def run(tiny: Path, cache: Path, **changes: Any) -> Told:
    data = data_spec(tiny, "sequence-classification", client_eval_examples=1, eval_examples=4, **changes)
    message = Prepare("p", 1, SEED, model_spec(tiny, "sequence-classification"), LORA, data, str(cache))
    return prepare(message, torch.device("cpu"), lambda _step, _steps: None)


def test_prepared_by_file_every_client_has_its_own_files_examples(tiny: Path, tmp_path: Path):
    lines = (tiny / "topics.jsonl").read_text().splitlines()
    topics: dict[str, list[str]] = {}
    for line in lines:
        topics.setdefault(json.loads(line)["topic"], []).append(line)
    for topic, own in topics.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{topic}.jsonl").write_text("\n".join(own))
    prepared = run(tiny, tmp_path / "cache", path=str(tmp_path / "data"), clients=None, partition=FILES)
    assert len(prepared.clients) == len(topics) == 4
    for index, client in enumerate(prepared.clients):
        assert [count > 0 for count in client.label_counts] == [each == index for each in range(4)]
    dataset = read_dataset(Path(prepared.index.path))
    assert len(dataset.held_out) == 4


@pytest.mark.parametrize("spec", [SIZE, SHARES, PATHOLOGICAL])
def test_every_partition_assigns_every_example(tiny: Path, tmp_path: Path, spec: PartitionSpec):
    clients = None if spec.shares else 5
    prepared = run(tiny, tmp_path, clients=clients, partition=replace(spec, min_examples=2))
    assert sum(client.n + client.n_eval for client in prepared.clients) + prepared.n_eval == 160
    assert len(prepared.clients) == (clients or 3)
    if spec is PATHOLOGICAL:
        assert all(np.count_nonzero(client.label_counts) <= 2 for client in prepared.clients)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 9))
def test_dirichlet_splits_each_value_over_the_clients_one_after_the_other(values: list[str], clients: int, seed: int):
    rng = np.random.default_rng(seed)
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for group in indices_by_value(values).values():
        cuts = np.floor(np.cumsum(rng.dirichlet(np.full(clients, 0.5)))[:-1] * len(group)).astype(int)
        for part, indices in zip(parts, np.split(rng.permutation(group), cuts), strict=True):
            part.append(indices)
    minimum = len(values) // (2 * clients)
    expected = top_up([np.concatenate(part) for part in parts], minimum, rng)
    found = partition_dirichlet(values, clients, 0.5, minimum, np.random.default_rng(seed))
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_indices_are_ascending_integers():
    part: Indices = partition(IID, [], 5, 1, np.random.default_rng(0))[0]
    assert part.dtype == np.int64 and part.tolist() == [0, 1, 2, 3, 4]
