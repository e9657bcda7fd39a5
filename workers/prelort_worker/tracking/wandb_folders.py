"""
The folders of a run that W&B keeps offline, in `wandb` of the run's folder. W&B cannot continue one, so a process that
starts again writes a new one, which begins with everything that the last one holds. So one of them holds all that was
delivered, and the others can go: W&B sends one folder, to which nothing has to be added there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # pyright: ignore[reportMissingImports]
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from ..runs import open_file
from .leveldb_log import read_records


@dataclass
class KeptRound:
    number: int
    # Seconds since 1970.
    at: float
    metrics: Mapping[str, float]


@dataclass
class KeptRun:
    """What a folder holds of a run."""

    folder: Path
    rounds: list[KeptRound] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    # None until the run has ended.
    exit_code: int | None = None

    @property
    def last_round(self) -> int:
        return self.rounds[-1].number if self.rounds else -1


def folders_of(parent: Path, key: str) -> list[Path]:
    """The folders of a run, the earliest first. W&B adds a number where two would have the same name."""
    named = re.compile(rf"(offline-)?run-\d{{8}}_\d{{6}}-{key}(-\d+)?")
    return sorted(found for found in parent.glob("*run-*") if named.fullmatch(found.name) and not found.is_symlink())


def fullest(parent: Path, key: str) -> KeptRun | None:
    """What the folder with the most rounds holds; of several, one whose run has ended, else the latest."""
    found = [read_folder(folder, key) for folder in folders_of(parent, key) if folder.name.startswith("offline-")]
    return max(found, key=lambda kept: (len(kept.rounds), kept.exit_code is not None, kept.folder.name), default=None)


def log_folder(parent: Path) -> Path:
    """Where the process of W&B's client writes its log, to which a run's folder links."""
    return parent / "log"


def remove_others(parent: Path, key: str, folder: Path | None) -> None:
    """All folders of the run but one, and the log of the client's process."""
    for other in [*folders_of(parent, key), log_folder(parent)]:
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    if folder is not None:
        (folder / "logs" / "debug-core.log").unlink(missing_ok=True)


def read_folder(folder: Path, key: str) -> KeptRun:
    kept = KeptRun(folder)
    file = folder / f"run-{key}.wandb"
    try:
        log = open_file(file)
    except FileNotFoundError:
        return kept
    with log:
        for data in read_records(log):
            try:
                _add(kept, Record.FromString(data))
            except (DecodeError, KeyError, TypeError, ValueError) as error:
                remedy = "remove the folder, and everything is delivered again"
                raise InputError(f"{file} holds what W&B has not written ({error!r}): {remedy}") from error
    return kept


def _add(kept: KeptRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "history":
        values = {_name(item): json.loads(item.value_json) for item in record.history.item}
        # Names that begin with an underscore are W&B's own.
        metrics = {name: float(value) for name, value in values.items() if not name.startswith("_")}
        kept.rounds.append(KeptRound(int(values["_step"]), float(values["_timestamp"]), metrics))
    elif kind in ("run", "config"):
        config = record.run.config if kind == "run" else record.config
        kept.config.update((_name(item), json.loads(item.value_json)) for item in config.update)
    elif kind == "exit":
        kept.exit_code = record.exit.exit_code


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)
