"""The prepared data as a file: what goes in comes out, and what is not whole is refused."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from prelort_worker.client_table import (
    Numbers,
    client_index,
    client_name,
    make_table,
    tally,
    to_tensors,
    values_of,
)
from prelort_worker.errors import InputError
from prelort_worker.prepared_dataset import (
    DatasetInfo,
    Example,
    PreparedDataset,
    file_sha256,
    make_dataset,
    open_dataset,
    read_dataset,
    write_dataset,
)
from safetensors import safe_open
from safetensors.torch import save

INFO = DatasetInfo("causal-lm", [], 1, 0)


def numbers(*values: int) -> Numbers:
    return np.array(values, np.int64)


# Of two clients: c00 holds labels 0 and 1, and values b and a; c01 holds neither.
TABLE = make_table(
    numbers(9, 4),
    numbers(1, 0),
    tally(numbers(2, 0), numbers(0, 1), numbers(1, 2)),
    tally(numbers(2, 0), numbers(1, 0), numbers(2, 1)),
    ["a", "b é"],
)
# Held out from all, then of each client what it trains on and what it does not.
SIZES = [2, 1, 0, 2, 1]


def examples() -> list[Example]:
    """Texts of different lengths, pictures of one size, a number each; the third text is empty."""
    return [
        {
            "input_ids": torch.arange(10 * index, 10 * index + length, dtype=torch.int32),
            "pixel_values": torch.full((3, 2, 4), index, dtype=torch.uint8),
            "labels": torch.tensor(index % 3),
            "learned": torch.tensor([False, True] * 2)[:length],
        }
        for index, length in enumerate([4, 1, 0, 2, 3, 4])
    ]


def dataset_of(examples: Sequence[Example]) -> PreparedDataset:
    return make_dataset(INFO, examples, [len(each["input_ids"]) for each in examples], SIZES, TABLE)


def test_examples_are_read_back_in_order_with_their_shapes_and_dtypes(tmp_path: Path):
    write_dataset(tmp_path / "index.safetensors", dataset_of(examples()))
    dataset = read_dataset(tmp_path / "index.safetensors")
    assert dataset.info == INFO
    back, told = to_tensors(dataset.table), to_tensors(TABLE)
    assert back.keys() == told.keys() and all(torch.equal(back[name], column) for name, column in told.items())
    assert values_of(dataset.table) == ["a", "b é"] and dataset.n_clients == 2
    assert dataset.sizes().tolist() == SIZES and [*dataset.training()] == [range(2, 3), range(3, 5)]
    for index, example in enumerate(examples()):
        back = dataset.example(index)
        assert back.keys() == example.keys()
        for name, value in example.items():
            assert back[name].dtype == value.dtype and torch.equal(back[name], value)
    assert [dataset.length(index) for index in range(6)] == [4, 1, 0, 2, 3, 4]
    assert dataset.held_out == range(2)
    assert (dataset.of_client("c00"), dataset.held_out_of("c00")) == (range(2, 3), range(3, 3))
    assert (dataset.of_client("c01"), dataset.held_out_of("c01")) == (range(3, 5), range(5, 6))


def test_fields_of_one_shape_are_stacked_and_others_concatenated(tmp_path: Path):
    write_dataset(tmp_path / "index.safetensors", dataset_of(examples()))
    with safe_open(tmp_path / "index.safetensors", framework="pt") as file:
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
        starts = file.get_tensor("input_ids.starts").tolist()
    assert shapes["pixel_values"] == [6, 3, 2, 4] and shapes["labels"] == [6]
    assert shapes["input_ids"] == shapes["learned"] == [14]
    assert starts == [0, 4, 5, 5, 7, 10, 14]
    assert "pixel_values.starts" not in shapes and "labels.starts" not in shapes


def test_the_same_index_is_the_same_bytes(tmp_path: Path):
    write_dataset(tmp_path / "one.safetensors", dataset_of(examples()))
    write_dataset(tmp_path / "other.safetensors", read_dataset(tmp_path / "one.safetensors"))
    assert file_sha256(tmp_path / "one.safetensors") == file_sha256(tmp_path / "other.safetensors")


def test_only_the_owner_can_read_the_file_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "prepared" / "index.safetensors"
    modes: list[int] = []

    def noted(aside: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(aside.stat().st_mode))
        return rename(aside, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "replace", noted)
    before = os.umask(0)
    try:
        write_dataset(path, dataset_of(examples()))
    finally:
        os.umask(before)
    assert modes == [0o600], "also before it has its name"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    assert [each.name for each in path.parent.iterdir()] == ["index.safetensors"]


def test_a_failed_write_leaves_no_file(tmp_path: Path):
    path = tmp_path / "index.safetensors"
    (path / "is a folder").mkdir(parents=True)
    with pytest.raises(OSError, match=r"index\.safetensors"):
        write_dataset(path, dataset_of(examples()))
    assert [each.name for each in tmp_path.iterdir()] == ["index.safetensors"]


@pytest.mark.parametrize(
    "name", ["input_ids", "input_ids.starts", "pixel_values", ".lengths", ".clients", ".n_tokens", ".mix.counts"]
)
def test_the_checksum_detects_a_changed_tensor(tmp_path: Path, name: str):
    path = tmp_path / "index.safetensors"
    write_dataset(path, dataset_of(examples()))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 - no mapping
    tensors[name].view(-1)[-1] += 1
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(InputError, match="checksum"):
        read_dataset(path)
    with pytest.raises(InputError, match="expected sha256 0000"):
        open_dataset(path, "0" * 64)


def test_a_file_of_another_kind_is_refused_as_an_index(tmp_path: Path):
    path = tmp_path / "index.safetensors"
    path.write_bytes(save({"weight": torch.zeros(2)}, {"format": "pt"}))
    with pytest.raises(InputError, match="prepared dataset"):
        read_dataset(path)


def test_a_read_error_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    write_dataset(tmp_path / "index.safetensors", dataset_of(examples()))
    monkeypatch.setattr("prelort_worker.prepared_dataset.safe_open", failing)
    with pytest.raises(OSError, match="Too many open files"):
        read_dataset(tmp_path / "index.safetensors")


@pytest.mark.parametrize(("count", "name"), [(1, "c00"), (100, "c99"), (101, "c100"), (1_000_000, "c999999")])
def test_a_client_is_found_by_its_name(count: int, name: str):
    assert client_name(count - 1, count) == name and client_index(name, count) == count - 1


@pytest.mark.parametrize("name", ["", "c", "c0", "c000", "x00", "c-1", "c10", "c²0", "c\u0660\u0660", "c" + "9" * 5000])
def test_a_name_that_no_client_has_finds_none(name: str):
    assert client_index(name, 10) is None


def test_an_unknown_client_is_named():
    with pytest.raises(ValueError, match=r"'c02'.*\b2\b"):
        dataset_of(examples()).of_client("c02")


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (
            [(3, 2, 4), (3, 2, 5)],
            r"pixels: .*\[3, 2, 4\].*\[3, 2, 5\]",
        ),
        ([(), (1,)], r"pixels: .*\[\].*\[1\]"),
    ],
)
def test_fields_that_cannot_form_one_tensor_are_named(shapes: list[tuple[int, ...]], reason: str):
    ragged = [{"pixels": torch.zeros(shape)} for shape in shapes]
    with pytest.raises(InputError, match=reason):
        make_dataset(INFO, ragged, [0, 0], [0, 1, 0, 1, 0])


def test_an_example_that_lacks_a_field_is_reported_with_the_fields():
    with pytest.raises(InputError, match=r"\blabels, text\b.*\btext\b"):
        make_dataset(
            INFO, [{"text": torch.zeros(1), "labels": torch.zeros(1)}, {"text": torch.zeros(1)}], [1, 1], SIZES
        )


def test_a_field_name_with_a_dot_is_refused():
    with pytest.raises(InputError, match=r"'a\.starts': expected a name without a dot"):
        make_dataset(INFO, [{"a.starts": torch.zeros(1)}], [1], SIZES)
