"""
Trackio: its store on this machine, which `trackio show` reads. A round is one row with an id of its own, so that it is
there whole or not at all, and once; rows are written as they are given and not by a thread of the client later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]
from trackio.table import Table  # pyright: ignore[reportMissingImports]

from .figures import columns_of, rows_of
from .tracker import Ending, Sample, TrackedRun


class TrackioTracker:
    def __init__(self, project: str) -> None:
        self._project = project
        self._key = ""
        self._name = ""
        self._config: dict[str, Any] = {}

    def check(self) -> None:
        SQLiteStorage.init_db(self._project)

    def open(self, run: TrackedRun) -> str:
        SQLiteStorage.init_db(self._project)
        self._key, self._name = run.key, run.name
        self._config = {**run.params, **run.tags}
        return run.key

    def last_round(self) -> int:
        last = SQLiteStorage.get_last_step(self._project, run=self._name, run_id=self._key)
        return -1 if last is None else last

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        table = {"samples": self._table(number, samples)} if samples else {}
        self._write(number, {**metrics, **table}, at)

    def close(self, ending: Ending) -> None:
        last = self.last_round()
        # It has no states and no summary, and takes a config with a row only: the last row, which it has already.
        if ending.state != "running" and last >= 0:
            self._config |= {"prelort.state": ending.state, **ending.tags, **ending.best}
            self._write(last, {}, 0.0)

    def _table(self, number: int, samples: Sequence[Sample]) -> Any:
        """As its client puts a table into a row, where it is whole or not at all. Its page shows the cells as text."""
        table = Table(columns=columns_of(samples), data=rows_of(samples))
        return table._to_dict(self._project, self._name, number)

    def _write(self, number: int, metrics: Mapping[str, Any], at: float) -> None:
        """A row whose id is there already is left as it is; the config is replaced."""
        SQLiteStorage.bulk_log(
            self._project,
            self._name,
            [dict(metrics)],
            steps=[number],
            timestamps=[datetime.fromtimestamp(at, timezone.utc).isoformat()],
            config=self._config,
            log_ids=[f"{self._key}-{number}"],
            run_id=self._key,
        )


def open_tracker(options: Mapping[str, Any], directory: Path) -> TrackioTracker:
    return TrackioTracker(options.get("project") or "prelort")
