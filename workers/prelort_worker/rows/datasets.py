"""
Reads rows of Parquet files and of Hugging Face datasets, both folders and hub names. Imports the `datasets` library
only here and only when needed; no code of a dataset is executed.
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
# Maps a row's index to (where, columns to add).
_Describe = Callable[[int], tuple[str, dict[str, Any]]]


class DatasetRows(Sequence[Row]):
    """
    Rows read lazily from disk, in Arrow's form: an image is a map of its `bytes` and `path`, not decoded. Class labels,
    single or in lists, are replaced by their names.
    """

    def __init__(self, dataset: "Dataset", describe: _Describe):
        self._table: Any = dataset.with_format("arrow")
        self._describe = describe
        self._names = {
            column: names for column, feature in dataset.features.items() if (names := _class_names(feature))
        }

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[index] for index in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(key)
        index = key % len(self)
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
    """Arrow does not validate text: bytes that are not UTF-8 become lone surrogates, which are refused later."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        texts = column.cast("large_binary" if column.type == "large_string" else "binary").to_pylist()
        return [None if each is None else each.decode("utf-8", "surrogateescape") for each in texts]


def read_parquet(files: Sequence[Path], describe: _Describe) -> DatasetRows:
    """The rows of all files, in order."""
    datasets = _import(str(files[0]))
    for path in files:
        if set("*?[]") & set(str(path)):
            raise InputError(
                f"{path}: the datasets library treats *, ?, [ and ] in a Parquet file's path as a pattern; rename it"
            )
    try:
        with private_files():  # it copies the rows into its own cache
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
    """A folder written by save_to_disk: one dataset, or one per split."""
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
    """A dataset on the hub, or a folder that is laid out like one."""
    dataset = _load_named(name, subset, split)
    return _of_split(dataset, f"{name}/{subset}" if subset else name, split or "train")


def fingerprint_of_named(name: str, subset: str | None, split: str | None) -> str:
    """The cache key of `datasets`: covers the configuration, the revision or files, and the split."""
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
            f"{name}: no such file or folder, and as a dataset on the Hugging Face hub it cannot "
            f"be loaded: {_tell(error)}",
            option,
        ) from error


def _of_split(dataset: "Dataset", called: str, split: str | None) -> DatasetRows:
    source = f"{called}[{split}]" if split else called
    return DatasetRows(dataset, lambda index: (f"{source}:{index}", {}))


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel or a list of them."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return names if type(inner).__name__ == "ClassLabel" else None


def _name(names: list[str], value: Any) -> Any:
    if isinstance(value, list):
        return [_name(names, each) for each in value]
    # -1 stands for a missing label.
    return names[value] if value is not None and value >= 0 else None


def _as_written(value: Any) -> Any:
    """Removes what Arrow adds to maps in a list, also if the list is in a map, as a row's messages may be."""
    if isinstance(value, dict):
        return {key: _as_written(each) for key, each in value.items()}
    is_maps = isinstance(value, list) and any(isinstance(each, dict) for each in value)
    return _present(value) if is_maps else value


def _present(value: Any) -> Any:
    """For maps in a list, such as messages: Arrow gives each map the keys of all, null where it had none."""
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
            f"installed ({error}); install it with: {sys.executable} -m pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _errors(datasets: ModuleType) -> tuple[type[Exception], ...]:
    """What the library raises for data, disk and network; our own bugs keep their traceback."""
    from pyarrow import ArrowException

    return datasets.exceptions.DatasetsError, ArrowException, OSError, ValueError, RuntimeError


def _tell(error: Exception) -> str:
    """On one line; the reason why preparing a dataset failed is in the error's cause."""
    told = str(error) if error.__cause__ is None else f"{error} ({error.__cause__})"
    return " ".join(told.split())[:1000]
