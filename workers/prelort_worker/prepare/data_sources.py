"""The files the data comes from: those that rows are read from, and those that rows name, such as images."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.file_hashes import Report, hash_files, to_json
from ..rows.read import row_files, rows_sha256
from ..rows.row import Row
from ..rows.templates import column_value
from ..tasks.task import Task
from ..wire.specs import DataSpec

_LONGEST_PATH = 4096
# With a suffix, or with a folder and no whitespace.
_PATH = re.compile(r"[^\0\n]*\.\w{1,10}|\S+/\S+")


@dataclass(frozen=True)
class DataFile:
    """`part` is the config key that leads to it, or "row of KEY" if a row names it."""

    part: str
    # As shown to the user.
    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class DataSources:
    sha256: str
    files: list[DataFile]
    folders: list[Path]
    # Whether nothing else determines the rows: the hub may change, and a custom task may read anything.
    is_complete: bool


def data_sources(task: Task, data: DataSpec, cache_dir: Path | None, report: Report | None = None) -> DataSources:
    """Includes the evaluation data, if that comes from elsewhere."""
    made = [_of_path(task, data, "data.path", data.path, data.split, cache_dir, report)]
    if data.eval_path is not None or data.eval_split is not None:
        path = data.eval_path or data.path
        made.append(_of_path(task, data, "data.eval_path", path, data.eval_split, cache_dir, report))
    return DataSources(
        sha256(to_json([each.sha256 for each in made])).hexdigest(),
        [file for each in made for file in each.files],
        [folder for each in made for folder in each.folders],
        all(each.is_complete for each in made),
    )


def _of_path(
    task: Task,
    data: DataSpec,
    key: str,
    path: str,
    split: str | None,
    cache_dir: Path | None,
    report: Report | None,
) -> DataSources:
    reads_as_all = type(task).read is Task.read
    if reads_as_all:
        content, files = rows_sha256(path, split, data.subset, cache_dir, report), row_files(path, split, data.subset)
    else:
        content, files = _sha256_of_rows(task.read(path, split, data)), []
    folder = _folder_of(path)
    read = [(file.relative_to(folder).as_posix(), file) for _, file in files]
    named = [*_named_files(task, data, path, split, {folder.resolve() / name for name, _ in read})]
    hashes = hash_files([file for _, file in (*read, *named)], cache_dir, report)
    parts = [*([key] * len(read)), *([f"row of {key}"] * len(named))]
    listed = [
        DataFile(part, name, file, sha) for part, (name, file), sha in zip(parts, (*read, *named), hashes, strict=True)
    ]
    return DataSources(
        sha256(to_json([content, [[each.name, each.sha256] for each in listed[len(read) :]]])).hexdigest(),
        listed,
        [folder] if Path(path).is_dir() else [],
        reads_as_all and Path(path).exists(),
    )


def _named_files(
    task: Task, data: DataSpec, path: str, split: str | None, known: set[Path]
) -> Iterator[tuple[str, Path]]:
    """The files that rows name: each once, with its name in the row."""
    columns = task.file_columns(data)
    if columns is not None and not columns:
        return
    own = task.model.task_folder
    folders = [Path.cwd(), _folder_of(path).resolve(), *([Path(own).resolve()] if own else [])]
    for row in task.read(path, split, data):
        cells = row.columns.values() if columns is None else [_cell(row, name) for name in columns]
        for name in _paths(cells, is_path=columns is not None):
            for file in dict.fromkeys(folder / name for folder in folders):
                if file not in known and _is_file(file):
                    known.add(file)
                    yield name, file


def _cell(row: Row, name: str) -> Any:
    try:
        return column_value(row, name, "data.image")
    except InputError:  # check_rows reports it
        return None


def _paths(cells: Iterable[Any], is_path: bool) -> Iterator[str]:
    """Possible paths in the cells; unless every cell is one, a pattern filters out millions of other texts."""
    for cell in cells:
        if isinstance(cell, str):
            if len(cell) <= _LONGEST_PATH and (is_path or _PATH.fullmatch(cell)):
                yield cell
        elif isinstance(cell, dict):
            if cell.get("bytes") is None:  # otherwise its path is only where the bytes came from
                yield from _paths(cell.values(), is_path)
        elif isinstance(cell, list):
            yield from _paths(cell, is_path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a path
        return False


def _folder_of(path: str) -> Path:
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _sha256_of_rows(rows: Sequence[Row]) -> str:
    digest = sha256()
    for row in rows:
        digest.update(json.dumps([row.where, row.columns], sort_keys=True, default=repr).encode())
    return digest.hexdigest()
