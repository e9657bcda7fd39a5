"""
Rows of Parquet files and of Hugging Face datasets: folders and names on the hub. All through the `datasets` library,
which is imported only here and only when asked for; it executes no code of a dataset (nor is it ever asked to).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.private_file import private_files
from .row import Row

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1000
# (where, columns to add) of the row at an index.
_Describe = Callable[[int], tuple[str, dict[str, Any]]]


class DatasetRows(Sequence[Row]):
    """
    Rows read from disk when they are asked for, as Arrow has them: an image is a map of its `bytes` and `path`, and
    nothing is decoded. Class labels, alone or in lists, are given by their names.
    """

    def __init__(self, dataset: "Dataset", describe: _Describe):
        self._table: Any = dataset.with_format("arrow")
        self._describe = describe
        self._names = {
            column: names for column, feature in dataset.features.items() if (names := _class_names(feature))
        }

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        index = place % len(self)
        return self._row(index, self._columns(index, index + 1)[0])

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _BATCH):
            for offset, columns in enumerate(self._columns(start, start + _BATCH)):
                yield self._row(start + offset, columns)

    def _columns(self, start: int, stop: int) -> list[dict[str, Any]]:
        table = self._table[start:stop]
        try:
            return table.to_pylist()
        except UnicodeDecodeError:
            values = [_values(column) for column in table.columns]
            return [dict(zip(table.column_names, row, strict=True)) for row in zip(*values, strict=True)]

    def _row(self, index: int, columns: dict[str, Any]) -> Row:
        where, added = self._describe(index)
        for column, names in self._names.items():
            columns[column] = _name(names, columns[column])
        return Row(where, {**added, **{name: _as_written(value) for name, value in columns.items()}})


def _values(column: Any) -> list[Any]:
    """Arrow does not look at the bytes of a text: those that are not UTF-8 become halves of surrogate pairs."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        texts = column.cast("large_binary" if column.type == "large_string" else "binary").to_pylist()
        return [None if each is None else each.decode("utf-8", "surrogateescape") for each in texts]


def read_parquet(files: Sequence[Path], describe: _Describe) -> DatasetRows:
    """The rows of one file after the other."""
    datasets = _import(str(files[0]))
    for path in files:
        if set("*?[]") & set(str(path)):
            raise InputError(
                f"{path}: the datasets library takes *, ?, [ and ] in a Parquet file's path for a pattern; rename it"
            )
    try:
        with private_files():  # it keeps a copy of the rows, in its own cache
            return DatasetRows(datasets.Dataset.from_parquet([str(path.resolve()) for path in files]), describe)
    except _errors(datasets) as error:
        called = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        raise InputError(f"{called}: cannot be read as Parquet: {_tell(error)}") from error


def parquet_lengths(files: Sequence[Path]) -> list[int]:
    _import(str(files[0]))
    from pyarrow import ArrowException, parquet

    lengths = []
    for path in files:
        try:
            lengths.append(parquet.read_metadata(path).num_rows)
        except (ArrowException, OSError) as error:
            raise InputError(f"{path}: is not a Parquet file: {error}") from error
    return lengths


def read_saved(folder: Path, split: str | None) -> DatasetRows:
    """What save_to_disk wrote: a dataset, or one for each split."""
    datasets = _import(str(folder))
    try:
        loaded = datasets.load_from_disk(str(folder))
    except _errors(datasets) as error:
        raise InputError(f"{folder}: cannot be loaded as a saved dataset: {_tell(error)}") from error
    if not isinstance(loaded, datasets.DatasetDict):
        if split not in (None, str(loaded.split)):
            raise InputError(f"{folder} holds one dataset without splits, got {split!r}; leave it out", "data.split")
        return _of_split(loaded, str(folder), None)
    wanted = split or "train"
    if wanted not in loaded:
        raise InputError(f"{folder} has no split {wanted!r}; there are: {', '.join(loaded)}", "data.split")
    return _of_split(loaded[wanted], str(folder), wanted)


def read_named(name: str, subset: str | None, split: str | None) -> DatasetRows:
    """A dataset on the hub, or a folder as the hub would understand it."""
    dataset = _load_named(name, subset, split)
    return _of_split(dataset, f"{name}/{subset}" if subset else name, split or "train")


def fingerprint_of_named(name: str, subset: str | None, split: str | None) -> str:
    """Of the dataset's configuration, its revision or files, and the split: as `datasets` keys its own cache by."""
    return _load_named(name, subset, split)._fingerprint


def _load_named(name: str, subset: str | None, split: str | None) -> "Dataset":
    datasets = _import(name)
    is_folder = Path(name).is_dir()
    try:
        with private_files() if is_folder else nullcontext():
            return datasets.load_dataset(name, subset, split=split or "train")
    except _errors(datasets) as error:
        option = "data.split" if "nknown split" in str(error) else None
        if is_folder:
            raise InputError(f"{name}: cannot be loaded as a dataset: {_tell(error)}", option) from error
        raise InputError(
            f"{name}: there is no such file or folder here, and as a dataset of the Hugging Face hub it cannot "
            f"be loaded: {_tell(error)}",
            option,
        ) from error


def _of_split(dataset: "Dataset", called: str, split: str | None) -> DatasetRows:
    place = f"{called}[{split}]" if split else called
    return DatasetRows(dataset, lambda index: (f"{place}:{index}", {}))


def _class_names(feature: Any) -> list[str] | None:
    """Of a ClassLabel or a list of them."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return names if type(inner).__name__ == "ClassLabel" else None


def _name(names: list[str], value: Any) -> Any:
    if isinstance(value, list):
        return [_name(names, each) for each in value]
    # -1 is what datasets without labels have.
    return names[value] if value is not None and value >= 0 else None


def _as_written(value: Any) -> Any:
    """Without what Arrow adds to maps in a list, also where that lies in a map, as a sample's messages may."""
    if isinstance(value, dict):
        return {key: _as_written(each) for key, each in value.items()}
    is_maps = isinstance(value, list) and any(isinstance(each, dict) for each in value)
    return _present(value) if is_maps else value


def _present(value: Any) -> Any:
    """Of maps in a list, such as messages: Arrow gives each the keys of all, null where it had none."""
    if isinstance(value, list):
        return [_present(each) for each in value]
    if isinstance(value, dict):
        return {key: _present(each) for key, each in value.items() if each is not None}
    return value


def _import(what: str) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{what}: Parquet files and Hugging Face datasets are read by the Python package datasets, which is not "
            f"there ({error}); install it with: {sys.executable} -m pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _errors(datasets: ModuleType) -> tuple[type[Exception], ...]:
    """What the library raises of data, disk and network; a fault of ours keeps its traceback."""
    from pyarrow import ArrowException

    return datasets.exceptions.DatasetsError, ArrowException, OSError, ValueError, RuntimeError


def _tell(error: Exception) -> str:
    """On one line; an error of preparing a dataset says why in its cause."""
    told = str(error) if error.__cause__ is None else f"{error} ({error.__cause__})"
    return " ".join(told.split())[:1000]
