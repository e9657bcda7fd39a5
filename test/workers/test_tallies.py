"""Counts of labels and values by client: against one counter for each client."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models_for_tests import CPU, quiet
from prelort_worker.client_table import Tally, make_table, no_table, tally
from prelort_worker.errors import InputError
from prelort_worker.prepare import tallies
from prelort_worker.prepare.tallies import sum_parts, tally_labels, tally_mix
from prelort_worker.prepared_dataset import DatasetInfo, make_dataset, read_dataset, write_dataset
from prelort_worker.wire.frames import CHUNK_BYTES, pack_clients
from prelort_worker.wire.mailbox import Outbox
from prelort_worker.wire.messages import Chunk, ClientColumns, End, IndexFile, Prepare, Prepared, TallyColumns
from specs import IID, LORA, SEED, data_spec, model_spec
from told import prepare

LABELS = ["a", "b", "c"]
# What each client trains on.
held = st.lists(st.lists(st.sampled_from(LABELS), max_size=12), min_size=1, max_size=6)


def flat(clients: list[list[str]]) -> tuple[list[str], np.ndarray]:
    owners = np.repeat(np.arange(len(clients)), [len(own) for own in clients])
    return [value for own in clients for value in own], owners


def pairs_of(counted: Tally) -> list[list[tuple[int, int]]]:
    pairs = iter(zip(counted.keys.tolist(), counted.counts.tolist(), strict=True))
    found = [[next(pairs) for _ in range(size)] for size in counted.sizes.tolist()]
    assert next(pairs, None) is None
    return found


@given(held)
def test_labels_are_counted_for_each_client_in_their_order(clients: list[list[str]]):
    counted = pairs_of(tally_labels(LABELS, *flat(clients), len(clients)))
    for own, pairs in zip(clients, counted, strict=True):
        counts = Counter(own)
        assert pairs == [(index, counts[label]) for index, label in enumerate(LABELS) if counts[label]]


def test_a_task_without_labels_has_none_to_count():
    assert pairs_of(tally_labels([], [], np.array([], np.int64), 2)) == [[], []]


@given(held, st.integers(1, 4))
def test_a_mix_has_the_most_frequent_values_first_and_the_rest_as_others(clients: list[list[str]], most: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "_VALUES", most)
        mix, values = tally_mix(*flat(clients), len(clients))
    for own, pairs in zip(clients, pairs_of(mix), strict=True):
        counts = Counter(own).most_common()
        if len(counts) > most:
            shown = counts[: most - 1]
            counts = [*shown, ("others", sum(count for _, count in counts[len(shown) :]))]
        assert [(values[key], count) for key, count in pairs] == counts


def test_a_long_value_is_shortened_before_it_is_counted():
    mix, values = tally_mix(["x" * 61, "x" * 60 + "y", "z"], np.array([0, 0, 0]), 1)
    assert pairs_of(mix) == [[(0, 2), (1, 1)]] and values == ["x" * 60, "z"]


@given(st.lists(st.lists(st.integers(0, 9))))
def test_parts_are_summed_even_where_they_are_empty(parts: list[list[int]]):
    numbers = np.array([number for part in parts for number in part], np.int64)
    sizes = np.array([len(part) for part in parts], np.int64)
    assert sum_parts(numbers, sizes).tolist() == [sum(part) for part in parts]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_table_of_few_clients_is_stored_whatever_the_strides_of_its_columns(tmp_path: Path, count: int):
    every_other = np.arange(2 * count)[::2]
    label_counts, mix = (tally(every_other, every_other, every_other) for _ in range(2))
    table = make_table(every_other, every_other, label_counts, mix, [])
    dataset = make_dataset(DatasetInfo("t", [], 0, 0), [], [], [0] * (2 * count + 1), table)
    write_dataset(tmp_path / "index.safetensors", dataset)
    assert read_dataset(tmp_path / "index.safetensors").table.mix.keys.tolist() == every_other.tolist()


def test_a_client_with_more_tokens_than_a_column_holds_is_reported():
    table = replace(no_table(1), n_tokens=torch.tensor([2**32]))
    dataset = make_dataset(DatasetInfo("t", [], 0, 0), [], [], [0, 1, 0], table)
    with pytest.raises(InputError, match=r"4294967296 tokens\b.*2\^32"):
        tallies.client_columns(dataset)


def test_twenty_thousand_clients_of_one_example_each_are_prepared(tiny: Path, tmp_path: Path):
    clients, task = 20_000, "sequence-classification"
    rows = (f'{{"text": "a {index % 9}", "topic": "t{index % 3}"}}\n' for index in range(clients + 10))
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    data = data_spec(tiny, task, path=str(tmp_path / "rows.jsonl"), eval_examples=10, clients=clients, partition=IID)
    prepared = prepare(Prepare("p", 1, SEED, model_spec(tiny, task), LORA, data, str(tmp_path)), CPU, quiet)
    assert [client.id for client in prepared.clients[-2:]] == ["c19998", "c19999"]
    assert all(client.n == 1 == sum(client.label_counts) and client.n_eval == 0 for client in prepared.clients)
    assert all([count.n for count in client.mix] == [1] for client in prepared.clients)
    dataset = read_dataset(Path(prepared.index.path))
    assert dataset.n_clients == clients and dataset.of_client("c19999") == range(clients + 9, clients + 10)


def test_a_table_of_many_clients_is_sent_in_chunks():
    count = 200_000
    zeros, none = bytes(4 * count), TallyColumns(bytes(4 * count), b"", b"")
    n = np.arange(1, count + 1, dtype="<u4").tobytes()
    table = pack_clients(ClientColumns([f"c{index}" for index in range(count)], n, zeros, zeros, zeros, none, none, []))
    outbox = Outbox()
    outbox.put(Prepared("p", 1, IndexFile("/i", "0" * 64), "1" * 64, None, [], 1, 0, [], []), table, may_lend=False)
    header, *chunks, end = outbox.sendable()
    assert isinstance(header, Prepared) and header.tensors[0].bytes == table["clients"].data.nbytes > CHUNK_BYTES
    assert isinstance(end, End) and len(chunks) > 1
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, Chunk)) == table["clients"].data
