"""
The folders of a run that W&B keeps offline, in `wandb` of the run's folder. Its client continues none: a process that
starts again makes another one, of the same run. `wandb sync` sends them one after the other, and none twice.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from google.protobuf.message import DecodeError  # pyright: ignore[reportMissingModuleSource]

from ..errors import InputError
from ..runs import open_file
from .leveldb_log import read_records
from .own_files import write_file
from .wandb_client import Record


@dataclass
class KeptRun:
    """What a folder holds of a run."""

    last_round: int = -1
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    # None until the run has ended.
    exit_code: int | None = None
    # Of the file up to what is cut off; 0 if not even the run is in it.
    length: int = 0


def folders_of(parent: Path, key: str, kind: Literal["offline-run", "run"]) -> list[Path]:
    """The earliest first. W&B adds a number where two would have the same name."""
    named = re.compile(rf"{kind}-(\d{{8}}_\d{{6}})-{key}(?:-(\d+))?")
    found = [(named.fullmatch(folder.name), folder) for folder in parent.glob(f"{kind}-*") if not folder.is_symlink()]
    return [folder for _, _, folder in sorted((m[1], int(m[2] or 0), folder) for m, folder in found if m)]


def read_kept(parent: Path, key: str) -> KeptRun:
    """
    What the folders hold together, and how the latest one ended. What a killed process has left of one is completed:
    nothing of that process gets into it any more, and what is cut off, at which `wandb sync` would stop, is gone.
    """
    kept = KeptRun()
    for folder in folders_of(parent, key, "offline-run"):
        found = read_folder(folder, key)
        if found.length == 0:
            shutil.rmtree(folder)
            continue
        if found.exit_code is None:
            with open_file(_file(folder, key)) as log:
                write_file(_file(folder, key), log.read(found.length))
        found.last_round = max(found.last_round, kept.last_round)
        kept = found
    return kept


def read_folder(folder: Path, key: str) -> KeptRun:
    kept = KeptRun()
    file = _file(folder, key)
    try:
        log = open_file(file)
    except FileNotFoundError:
        return kept
    with log:
        for data, end in read_records(log):
            try:
                _add(kept, Record.FromString(data), end)
            except (DecodeError, KeyError, TypeError, ValueError) as error:
                remedy = "restore it from a copy, or remove the folder and those after it, and they are delivered again"
                raise InputError(f"{file} holds what W&B has not written ({error!r}): {remedy}") from error
    return kept


def _file(folder: Path, key: str) -> Path:
    return folder / f"run-{key}.wandb"


def _add(kept: KeptRun, record: Any, end: int) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "history":
        values = {_name(item): item.value_json for item in record.history.item}
        kept.last_round = max(kept.last_round, int(values["_step"]))
    elif kind in ("run", "config"):
        config = record.run.config if kind == "run" else record.config
        kept.config.update((_name(item), json.loads(item.value_json)) for item in config.update)
    elif kind == "summary":
        kept.summary.update((_name(item), json.loads(item.value_json)) for item in record.summary.update)
    elif kind == "exit":
        kept.exit_code = record.exit.exit_code
    if kind == "run" or kept.length > 0:
        kept.length = end


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)
