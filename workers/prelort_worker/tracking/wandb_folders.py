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
from typing import Any, Literal

from google.protobuf.message import DecodeError  # pyright: ignore[reportMissingModuleSource]

from ..errors import InputError
from ..runs import open_file
from .leveldb_log import read_records
from .wandb_client import Record


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


class RunFolders:
    """`parent` holds the folders of a run, which `key` is the id of."""

    def __init__(self, parent: Path, key: str) -> None:
        self._parent = parent
        self._key = key
        # Where the process of W&B's client writes its log, to which a run's folder links.
        self.log = parent / "log"

    def of(self, kind: Literal["offline-run", "run"]) -> list[Path]:
        """The earliest first. W&B adds a number where two would have the same name."""
        named = re.compile(rf"{kind}-\d{{8}}_\d{{6}}-{self._key}(-\d+)?")
        return sorted(
            found for found in self._parent.glob(f"{kind}-*") if named.fullmatch(found.name) and not found.is_symlink()
        )

    def fullest(self) -> KeptRun | None:
        """What the folder with the most rounds holds; of several, one whose run has ended, else the latest."""
        found = map(self.read, self.of("offline-run"))
        return max(found, key=lambda kept: (len(kept.rounds), kept.exit_code is not None, kept.folder), default=None)

    def remove(self, kind: Literal["offline-run", "run"], but: Path | None) -> None:
        """All of a kind but one, and the log of the client's process."""
        for folder in [*self.of(kind), self.log]:
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)
        if but is not None:
            (but / "logs" / "debug-core.log").unlink(missing_ok=True)

    def read(self, folder: Path) -> KeptRun:
        kept = KeptRun(folder)
        file = folder / f"run-{self._key}.wandb"
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
