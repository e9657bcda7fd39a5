"""
Trackio: its store on this machine, which `trackio show` reads. A round is one row with an id of its own, so that it is
there whole or not at all, and once; rows are written as they are given and not by a thread of the client later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

from .tracker import State, TrackedRun


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

    def log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        self._write(number, metrics, at)

    def close(self, state: State, tags: Mapping[str, str]) -> None:
        last = self.last_round()
        # It has no states, and takes a config with a row only: the last row, which it has already.
        if state != "running" and last >= 0:
            self._config |= {"prelort.state": state, **tags}
            self._write(last, {}, 0.0)

    def _write(self, number: int, metrics: Mapping[str, float], at: float) -> None:
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
