"""
Weights & Biases: a run of a project, at its server, or offline in the run's folder. Its client hands everything to a
process of its own, which sends it or writes it within a second; what was on its way when that ended is handed over
anew, after what the server or the folder holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .own_files import own_folder
from .tracker import RefusedError, State, TrackedRun
from .wandb_client import OWN_METRICS_ALONE, end_client, errors, log_client, wandb
from .wandb_folders import KeptRun, RunFolders

# 255 is what its client gives a run that Ctrl-C ended.
_EXIT_CODES = {"finished": 0, "failed": 1, "killed": 255}
_STATE = "prelort.state"
# Seconds: between writes to its file; for a server to answer; to answer when a run begins; to show what it was sent.
_FLUSH, _ANSWER, _PATIENCE, _INDEXING = 1.0, 6, 20, 60
_KEY_REMEDY = "set WANDB_API_KEY to the key from your W&B settings page, or keep the run here with mode: offline"


class WandbTracker:
    """What both modes share: the run that the client has open."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._tracked: TrackedRun
        self._folders: RunFolders
        # Of the client; None until there is something to tell it.
        self._run: Any = None
        self._last = -1

    def last_round(self) -> int:
        return self._last

    def _take(self, run: TrackedRun) -> None:
        own_folder(run.directory / "wandb")
        self._folders = RunFolders(run.directory / "wandb", run.key)
        self._tracked = run

    def _start(self, mode: str, **settings: Any) -> None:
        end_client()
        own_folder(self._folders.log)
        log_client(self._folders.log)
        run, options = self._tracked, self._options
        self._run = wandb.init(
            id=run.key,
            mode=mode,
            dir=str(run.directory),
            project=options.get("project") or os.environ.get("WANDB_PROJECT") or "prelort",
            entity=options.get("entity"),
            group=options.get("group"),
            tags=options.get("tags"),
            name=options.get("run_name") or run.name,
            config={**run.params, **run.tags},
            settings=wandb.Settings(**OWN_METRICS_ALONE, **settings),
        )

    def _log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        self._run.log({**metrics, "_timestamp": at}, step=number, commit=True)
        self._last = number

    def _finish(self, state: State, tags: Mapping[str, str]) -> None:
        self._run.config.update({_STATE: state, **tags}, allow_val_change=True)
        self._run.finish(exit_code=_EXIT_CODES[state])


class OfflineTracker(WandbTracker):
    """In a folder that `wandb sync` sends to a server."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._kept: KeptRun | None = None
        # That is written to.
        self._folder: Path | None = None

    def check(self) -> None: ...

    def open(self, run: TrackedRun) -> str:
        self._take(run)
        self._kept = self._folders.fullest()
        self._last = -1 if self._kept is None else self._kept.last_round
        self._folders.remove("offline-run", self._kept and self._kept.folder)
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        if self._folder is None:
            self._begin()
        self._log(number, metrics, at)

    def close(self, state: State, tags: Mapping[str, str]) -> None:
        if self._folder is None and (state == "running" or self._is_closed(state, tags)):
            return
        folder = self._folder or self._begin()
        if state == "running":
            _wait(lambda: self._is_written(folder), 10 * _FLUSH, f"{folder} is not written")
        else:
            self._finish(state, tags)
            end_client()
            if not self._is_written(folder):
                raise OSError(f"{folder} lacks rounds that W&B was given: is the disk full?")
        self._folders.remove("offline-run", folder)

    def _begin(self) -> Path:
        self._start("offline", x_transaction_log_flush_interval=_FLUSH)
        self._folder = Path(self._run.settings.sync_dir)
        for kept in self._kept.rounds if self._kept else ():
            self._log(kept.number, kept.metrics, kept.at)
        return self._folder

    def _is_closed(self, state: State, tags: Mapping[str, str]) -> bool:
        """The folder says already how the run ended."""
        if self._kept is None or self._kept.exit_code is None:
            return False
        return all(self._kept.config.get(name) == value for name, value in {_STATE: state, **tags}.items())

    def _is_written(self, folder: Path) -> bool:
        return self._folders.read(folder).last_round == self._last


class OnlineTracker(WandbTracker):
    """At a server, which says what it holds when the run is resumed there."""

    def check(self) -> None:
        log_client(None)
        try:
            wandb.Api(timeout=_ANSWER)
        except errors.UsageError as error:
            raise RefusedError(f"there are no credentials: {_KEY_REMEDY}") from error
        except errors.AuthenticationError as error:
            raise _in_other_words(error) from error
        finally:
            end_client()

    def open(self, run: TrackedRun) -> str:
        self._take(run)
        self._folders.remove("run", None)
        settings = {"init_timeout": _PATIENCE, "x_skip_transaction_log": True}
        self._start("online", resume="allow", **settings)
        self._last = self._run.starting_step - 1
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        self._log(number, metrics, at)

    def close(self, state: State, tags: Mapping[str, str]) -> None:
        if state != "running":
            self._finish(state, tags)
        if self._last >= 0:
            _wait(self._is_held, _INDEXING, f"the server does not show round {self._last} yet")
        # It would end the run there.
        if state != "running":
            end_client()
        self._folders.remove("run", None)

    def _is_held(self) -> bool:
        path = f"{self._run.entity}/{self._run.project}/{self._tracked.key}"
        return wandb.Api(timeout=_PATIENCE).run(path).lastHistoryStep >= self._last


def _in_other_words(error: Exception) -> Exception:
    """Its client calls everything that keeps it from checking a key an AuthenticationError."""
    cause = error.__cause__
    answer = getattr(cause, "response", None)
    # Without a cause, the client itself refuses the key.
    if cause is None or getattr(answer, "http_status", 0) in (401, 403) or "invalid credentials" in str(cause):
        return RefusedError(f"the credentials are refused: {error}; {_KEY_REMEDY}")
    return error if answer else ConnectionError(f"{wandb.setup().settings.base_url} does not answer")


def _wait(is_so: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Raises TimeoutError when it is not so in time."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(_FLUSH / 4)


def open_tracker(options: Mapping[str, Any], directory: Path) -> OfflineTracker | OnlineTracker:
    try:
        # Of the environment, or as the command `wandb offline` has left it.
        mode = options.get("mode") or wandb.setup().settings.mode
    except ValueError:
        mode = os.environ.get("WANDB_MODE")
    if mode in ("offline", "dryrun"):
        return OfflineTracker(options)
    if mode in ("online", "run"):
        return OnlineTracker(options)
    raise RefusedError(f"WANDB_MODE is {mode}: set it, or mode, to online or offline")
