"""The user's data as rows, whatever it lies in: a file, a folder of files, a Hugging Face dataset."""

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
# What lies beside data and is none.
_ABOUT = re.compile(r"(readme|license|licence|citation)(\..*)?", re.IGNORECASE)


class PartlyRead(InputError):
    """Some rows cannot be read; `rows` are the others, of which more may be wrong."""

    def __init__(self, error: InputError, rows: list[Row]) -> None:
        super().__init__(str(error))
        self.problems = error.problems
        self.rows = rows


@dataclass(frozen=True)
class _Files:
    """Of one kind, in the order of their names. `root` is what their names are relative to; None of a single file."""

    kind: str
    paths: list[Path]
    root: Path | None


def read_rows(path: str, split: str | None = None, subset: str | None = None) -> Sequence[Row]:
    """
    - .jsonl, .ndjson, .json (a list of objects), .csv, .tsv (with a header), .parquet: one row a record
    - .txt, .md, an image: one row, column `text`, or `image`: its path
    - a folder of such files of one kind, nested or not, in the order of their names. Column `file` is a file's path in
      the folder without its suffix; texts and images also have `folder`, the path of the folder that they lie in.
      Where file names or the topmost folders tell splits (train, test, …), `split` chooses.
    - a folder that save_to_disk wrote, one with a dataset card, or images with a metadata file, as `datasets` loads it
    - otherwise a name on the Hugging Face hub; `subset` is what the hub also calls a configuration, `split` "train" by
      default

    Raises InputError with what is wrong and where: of all files, if it is single rows that cannot be read.
    """
    place = Path(path)
    if place.is_dir() and _is_saved(place):
        _refuse(path, "subset", subset)
        rows = read_saved(place, split)
    elif not place.exists() or (place.is_dir() and _is_card(place, subset)):
        rows = read_named(_hub_name(path), subset, split)
    else:
        files = _files_of(place, split, subset)
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
    """Of what read_rows reads: files' names and bytes; of the hub what `datasets` knows of revision and split."""
    place = Path(path)
    if not place.exists():
        return sha256(fingerprint_of_named(_hub_name(path), subset, split).encode()).hexdigest()
    found = row_files(path, split, subset)
    hashes = hash_files([file for _, file in found], cache_dir, report)
    parts = [f"{name}:{sha}" for (name, _), sha in zip(found, hashes, strict=True)]
    if place.is_dir() and (_is_saved(place) or _is_card(place, subset)):
        parts = [f"{split}/{subset}", *parts]
    return sha256("\n".join(parts).encode()).hexdigest()


def row_files(path: str, split: str | None = None, subset: str | None = None) -> list[tuple[str, Path]]:
    """The files that read_rows reads, by what of their names matters: of a single file its kind; none of the hub."""
    place = Path(path)
    if not place.exists():
        return []
    if place.is_dir() and (_is_saved(place) or _is_card(place, subset)):
        return [(_name(each, place), each) for each in _visible(place)]
    files = _files_of(place, split, subset)
    return [(files.kind if files.root is None else _name(each, files.root), each) for each in files.paths]


def _hub_name(path: str) -> str:
    """What is not on disk may be a name on the hub, if it can be one."""
    place = Path(path)
    if place.is_dir():
        return str(place.resolve())
    if place.suffix.lower() in KIND_OF_SUFFIX or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path):
        raise InputError(f"{path}: no such file or folder")
    return path


def _is_saved(folder: Path) -> bool:
    is_dataset = all((folder / name).is_file() for name in ("dataset_info.json", "state.json"))
    return is_dataset or (folder / "dataset_dict.json").is_file()


def _is_card(folder: Path, subset: str | None) -> bool:
    """Whether the folder says more of its files than their names do, or is asked for what only that could tell."""
    card = folder / "README.md"
    front = card.read_bytes().split(b"\n---", 1)[0] if card.is_file() else b""
    if subset is not None or (
        front.startswith(b"---") and re.search(rb"^(configs|dataset_info):", front, re.MULTILINE)
    ):
        return True
    files = _visible(folder)
    has_metadata = any(file.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet") for file in files)
    return has_metadata and any(KIND_OF_SUFFIX.get(file.suffix.lower()) == "image" for file in files)


def _files_of(place: Path, split: str | None, subset: str | None) -> _Files:
    if place.is_dir():
        return _files_in(place, split)
    _refuse(str(place), "split", split)
    _refuse(str(place), "subset", subset)
    kind = KIND_OF_SUFFIX.get(place.suffix.lower())
    if kind is None:
        raise InputError(
            f"{place}: cannot be read as data; expected a file that ends in {', '.join(KIND_OF_SUFFIX)}, or a folder"
        )
    return _Files(kind, [place], None)


def _files_in(folder: Path, split: str | None) -> _Files:
    paths = [path for path in _visible(folder) if not _ABOUT.fullmatch(path.name)]
    if not paths:
        raise InputError(f"{folder}: holds no files; expected some that end in {', '.join(KIND_OF_SUFFIX)}")
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kind = KIND_OF_SUFFIX.get(path.suffix.lower(), f"{path.suffix or 'no suffix'} (which cannot be read)")
        kinds.setdefault(kind, []).append(str(path.relative_to(folder)))
    if len(kinds) > 1 or next(iter(kinds)) not in EXPECTED_IN:
        there = "; ".join(f"{kind}: {len(names)}, such as {names[0]}" for kind, names in list(kinds.items())[:4])
        raise InputError(f"{folder}: expected files of one kind that ends in {', '.join(KIND_OF_SUFFIX)}, got {there}")
    kind = next(iter(kinds))
    splits: dict[str, list[Path]] = {}
    for path in paths:
        splits.setdefault(_split_of(path.relative_to(folder), kind), []).append(path)
    if split is None and len(splits) > 1:
        told = {name or "none": f"{len(files)}, such as {_name(files[0], folder)}" for name, files in splits.items()}
        raise InputError(
            f"is needed, since the names in {folder} tell of several: "
            f"{'; '.join(f'{name}: {count}' for name, count in told.items())}; name one, or rename what is no split",
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
    """`train` of train/a.txt, and of tables also of data/train-00000-of-00002.parquet; empty where nothing is told."""
    if len(path.parts) > 1 and re.fullmatch(_SPLITS, path.parts[0]):
        return path.parts[0]
    named = re.match(_SPLITS + r"(?![^-_.])", path.name) if kind not in ("text", "image") else None
    return named[1] if named else ""


def _visible(folder: Path) -> list[Path]:
    """Every file below the folder that is not hidden, in the order of the names, which must be text."""
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
    """The columns that tell where in the folder a file lies."""
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
        place = bisect_right(ends, index)
        path = files.paths[place]
        return f"{path}:{index - (ends[place - 1] if place else 0)}", _added(path, files)

    return read_parquet(files.paths, describe) if ends[-1] else []


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _refuse(path: str, option: str, value: str | None) -> None:
    if value is not None:
        raise InputError(f"does not go with {path}, which has none, got {value!r}; leave it out", f"data.{option}")
