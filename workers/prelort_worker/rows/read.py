"""Reads the user's data as rows from a file, a folder of files or a Hugging Face dataset."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

from ..errors import MOST_ROWS, InputError, RowFaults, list_rows
from ..files.file_hashes import Report, hash_files
from ..files.source_files import visible as files_below
from .datasets import fingerprint_of_named, parquet_lengths, read_named, read_parquet, read_saved
from .file_kinds import EXPECTED_IN, KIND_OF_SUFFIX, read_file
from .legal import is_name
from .row import Row

__all__ = ["Row", "read_rows", "row_files", "rows_sha256"]

_SPLITS = r"(train|training|test|testing|valid|validation|val|dev|eval|evaluation)"
# Files beside the data that are not data.
_ABOUT = re.compile(r"(readme|license|licence|citation)(\..*)?", re.IGNORECASE)


class PartlyRead(InputError):
    """Some rows cannot be read; `rows` holds the others, which may have faults too."""

    def __init__(self, error: InputError, rows: list[Row]) -> None:
        super().__init__(str(error))
        self.problems = error.problems
        self.rows = rows


@dataclass(frozen=True)
class _Files:
    """Files of one kind, sorted by name. Names are relative to `root`, which is None for a single file."""

    kind: str
    paths: list[Path]
    root: Path | None


def read_rows(path: str, split: str | None = None, subset: str | None = None) -> Sequence[Row]:
    """
    - .jsonl, .ndjson, .json (a list of objects), .csv, .tsv (with a header), .parquet: one row a record
    - .txt, .md, an image: one row, column `text`, or `image`: its path
    - a folder of such files of one kind, nested or not, sorted by name. Column `file` is a file's path in the folder
      without its suffix; texts and images also have `folder`, the path of their own folder. Where file names or
      top-level folders name splits (train, test, …), `split` selects one.
    - a folder written by save_to_disk, one with a dataset card, or images with a metadata file, as `datasets` loads it
    - otherwise a name on the Hugging Face hub; `subset` is also called a configuration there, `split` is "train" by
      default

    Raises InputError with what is wrong and where: for all files together, if only some rows cannot be read.
    """
    location = Path(path)
    if location.is_dir() and _is_saved(location):
        _refuse(path, "subset", subset)
        rows = read_saved(location, split)
    elif not location.exists() or (location.is_dir() and _is_card(location, subset)):
        rows = read_named(_hub_name(path), subset, split)
    else:
        files = _files_of(location, split, subset)
        rows = _parquet(files) if files.kind == "parquet" else _read_files(files)
        if len(rows) == 0:
            raise InputError(f"{path}: holds no examples; expected {EXPECTED_IN[files.kind]}")
    if len(rows) == 0:
        raise InputError(f"{path}: holds no examples")
    return rows


def rows_sha256(
    path: str,
    split: str | None = None,
    subset: str | None = None,
    cache_dir: Path | None = None,
    report: Report | None = None,
) -> str:
    """SHA-256 of what read_rows reads: names and bytes of files; for the hub, the fingerprint of `datasets`."""
    location = Path(path)
    if not location.exists():
        return sha256(fingerprint_of_named(_hub_name(path), subset, split).encode()).hexdigest()
    found = row_files(path, split, subset)
    hashes = hash_files([file for _, file in found], cache_dir, report)
    parts = [f"{name}:{sha}" for (name, _), sha in zip(found, hashes, strict=True)]
    if location.is_dir() and (_is_saved(location) or _is_card(location, subset)):
        parts = [f"{split}/{subset}", *parts]
    return sha256("\n".join(parts).encode()).hexdigest()


def row_files(path: str, split: str | None = None, subset: str | None = None) -> list[tuple[str, Path]]:
    """The files that read_rows reads, by relevant name: for a single file its kind; none for the hub."""
    location = Path(path)
    if not location.exists():
        return []
    if location.is_dir() and (_is_saved(location) or _is_card(location, subset)):
        return [(_name(each, location), each) for each in _visible(location)]
    files = _files_of(location, split, subset)
    return [(files.kind if files.root is None else _name(each, files.root), each) for each in files.paths]


def _hub_name(path: str) -> str:
    """A path that is not on disk as a hub name, if it is a valid one."""
    location = Path(path)
    if location.is_dir():
        return str(location.resolve())
    if location.suffix.lower() in KIND_OF_SUFFIX or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path):
        raise InputError(f"{path}: no such file or folder")
    return path


def _is_saved(folder: Path) -> bool:
    is_dataset = all((folder / name).is_file() for name in ("dataset_info.json", "state.json"))
    return is_dataset or (folder / "dataset_dict.json").is_file()


def _is_card(folder: Path, subset: str | None) -> bool:
    """Whether `datasets` has to load the folder: it describes its files, or a subset is requested."""
    card = folder / "README.md"
    front = card.read_bytes().split(b"\n---", 1)[0] if card.is_file() else b""
    if subset is not None or (
        front.startswith(b"---") and re.search(rb"^(configs|dataset_info):", front, re.MULTILINE)
    ):
        return True
    files = _visible(folder)
    has_metadata = any(file.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet") for file in files)
    return has_metadata and any(KIND_OF_SUFFIX.get(file.suffix.lower()) == "image" for file in files)


def _files_of(location: Path, split: str | None, subset: str | None) -> _Files:
    if location.is_dir():
        return _files_in(location, split)
    _refuse(str(location), "split", split)
    _refuse(str(location), "subset", subset)
    kind = KIND_OF_SUFFIX.get(location.suffix.lower())
    if kind is None:
        raise InputError(
            f"{location}: cannot be read as data; expected a file that ends in {', '.join(KIND_OF_SUFFIX)}, or a folder"
        )
    return _Files(kind, [location], None)


def _files_in(folder: Path, split: str | None) -> _Files:
    paths = [path for path in _visible(folder) if not _ABOUT.fullmatch(path.name)]
    if not paths:
        raise InputError(f"{folder}: holds no files; expected files ending in {', '.join(KIND_OF_SUFFIX)}")
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kind = KIND_OF_SUFFIX.get(path.suffix.lower(), f"{path.suffix or 'no suffix'} (which cannot be read)")
        kinds.setdefault(kind, []).append(str(path.relative_to(folder)))
    if len(kinds) > 1 or next(iter(kinds)) not in EXPECTED_IN:
        there = "; ".join(f"{kind}: {len(names)}, such as {names[0]}" for kind, names in list(kinds.items())[:4])
        expected = f"files of a single kind ending in {', '.join(KIND_OF_SUFFIX)}"
        raise InputError(f"{folder}: expected {expected}, got {there}")
    kind = next(iter(kinds))
    splits: dict[str, list[Path]] = {}
    for path in paths:
        splits.setdefault(_split_of(path.relative_to(folder), kind), []).append(path)
    if split is None and len(splits) > 1:
        told = {name or "none": f"{len(files)}, such as {_name(files[0], folder)}" for name, files in splits.items()}
        raise InputError(
            f"is required, since the names in {folder} indicate several: "
            f"{'; '.join(f'{name}: {count}' for name, count in told.items())}; name one, "
            "or rename the files that are not splits",
            "data.split",
        )
    if split is not None and split not in splits:
        raise InputError(
            f"{folder} has no split {split!r}; there are: {', '.join(filter(None, splits)) or 'none'}", "data.split"
        )
    chosen = paths if split is None else splits[split]
    root = folder / split if split is not None and all(folder / split in path.parents for path in chosen) else folder
    return _Files(kind, chosen, root)


def _split_of(path: Path, kind: str) -> str:
    """`train` for train/a.txt, and for tables also data/train-00000-of-00002.parquet; empty if no split is named."""
    if len(path.parts) > 1 and re.fullmatch(_SPLITS, path.parts[0]):
        return path.parts[0]
    named = re.match(_SPLITS + r"(?![^-_.])", path.name) if kind not in ("text", "image") else None
    return named[1] if named else ""


def _visible(folder: Path) -> list[Path]:
    """All files below the folder that are not hidden, sorted by name. Names must be valid text."""
    ordered = files_below(folder)
    if odd := [ascii(_name(path, folder)) for path in ordered if not is_name(_name(path, folder))]:
        raise InputError(
            f"{folder}: {list_rows(odd[:MOST_ROWS], len(odd))}: a file's name must be UTF-8 without control "
            "characters; rename it"
        )
    return ordered


def _read_files(files: _Files) -> list[Row]:
    faults = RowFaults()
    rows: list[Row] = []
    for path in files.paths:
        added = _added(path, files)
        with faults.of(""):
            found = read_file(path, files.kind, faults)
            rows += [Row(row.where, {**added, **row.columns}) for row in found] if added else found
    try:
        faults.raise_any()
    except InputError as error:
        raise PartlyRead(error, rows) from error
    return rows


def _added(path: Path, files: _Files) -> dict[str, str]:
    """Columns for the location of a file in the folder."""
    if files.root is None:
        return {}
    name = path.relative_to(files.root).with_suffix("").as_posix()
    if files.kind not in ("text", "image"):
        return {"file": name}
    folder = path.relative_to(files.root).parent.as_posix()
    return {"file": name, "folder": "" if folder == "." else folder}


def _parquet(files: _Files) -> Sequence[Row]:
    ends = list(accumulate(parquet_lengths(files.paths)))

    def describe(index: int) -> tuple[str, dict[str, str]]:
        number = bisect_right(ends, index)
        path = files.paths[number]
        return f"{path}:{index - (ends[number - 1] if number else 0)}", _added(path, files)

    return read_parquet(files.paths, describe) if ends[-1] else []


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _refuse(path: str, option: str, value: str | None) -> None:
    if value is not None:
        raise InputError(f"does not apply to {path}, which has none: got {value!r}; leave it out", f"data.{option}")
