"""
Weights & Biases: a run of a project, at its server, or offline in the run's folder. Its client hands everything to a
process of its own, which sends it or writes it within a second; what was on its way when that ended is handed over
anew, after what the server or the folder holds.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

# Its client would report its own errors to its makers.
os.environ["WANDB_ERROR_REPORTING"] = "false"
# Of a program that tracks a run of its own, such as one that started the controller: ours is another run.
for _name in ("SERVICE", "SWEEP_ID", "SWEEP_PARAM_PATH", "LAUNCH", "RUN_ID", "RESUME", "RESUME_FROM", "FORK_FROM"):
    os.environ.pop(f"WANDB_{_name}", None)

# When it is imported, it makes folders for media and artifacts, which nobody removes after kill -9.
with mock.patch("tempfile.TemporaryDirectory"):
    import wandb  # pyright: ignore[reportMissingImports]
from wandb.errors import AuthenticationError  # pyright: ignore[reportMissingImports]

from .own_files import own_folder
from .tracker import RefusedError, State, TrackedRun
from .wandb_folders import KeptRun, fullest, log_folder, read_folder, remove_others

# 255 is what its client gives a run that Ctrl-C ended.
_EXIT_CODES = {"finished": 0, "failed": 1, "killed": 255}
_STATE = "prelort.state"
# Seconds: between writes to its file; until a server is taken for absent; until it has to show what it was sent.
_FLUSH, _PATIENCE, _INDEXING = 1.0, 20.0, 60.0
_KEY_REMEDY = "set WANDB_API_KEY to the key from your W&B settings page, or keep the run here with mode: offline"


class WandbTracker:
    """What both modes share: the run that the client has open."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._tracked: TrackedRun | None = None
        self._run: Any = None
        self._last = -1

    def last_round(self) -> int:
        return self._last

    @property
    def _parent(self) -> Path:
        assert self._tracked is not None
        return self._tracked.directory / "wandb"

    def _take(self, run: TrackedRun) -> None:
        own_folder(run.directory / "wandb")
        self._tracked = run

    def _start(self, mode: str, **settings: Any) -> None:
        assert self._tracked is not None
        _end_client()
        # Where its process writes its log, which would else stay in the user's cache.
        own_folder(log_folder(self._parent))
        os.environ["WANDB_CACHE_DIR"] = str(log_folder(self._parent))
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
            settings=wandb.Settings(**_QUIET, **settings),
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

    def check(self) -> None: ...

    def open(self, run: TrackedRun) -> str:
        self._take(run)
        self._kept = fullest(self._parent, run.key)
        self._last = -1 if self._kept is None else self._kept.last_round
        remove_others(self._parent, run.key, self._kept and self._kept.folder)
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        if self._run is None:
            self._begin()
        self._log(number, metrics, at)

    def close(self, state: State, tags: Mapping[str, str]) -> None:
        if self._run is None:
            if state == "running" or self._is_closed(state, tags):
                return
            self._begin()
        folder = Path(self._run.settings.sync_dir)
        if state == "running":
            _wait(lambda: self._is_written(folder), 10 * _FLUSH, f"{folder} is not written")
        else:
            self._finish(state, tags)
            wandb.teardown()
            if not self._is_written(folder):
                raise OSError(f"{folder} lacks rounds that W&B was given: is the disk full?")
        remove_others(self._parent, self._run.id, folder)

    def _begin(self) -> None:
        self._start("offline", x_transaction_log_flush_interval=_FLUSH)
        for kept in self._kept.rounds if self._kept else ():
            self._log(kept.number, kept.metrics, kept.at)

    def _is_closed(self, state: State, tags: Mapping[str, str]) -> bool:
        """The folder says already how the run ended."""
        if self._kept is None or self._kept.exit_code is None:
            return False
        return all(self._kept.config.get(name) == value for name, value in {_STATE: state, **tags}.items())

    def _is_written(self, folder: Path) -> bool:
        return read_folder(folder, self._run.id).last_round == self._last


class OnlineTracker(WandbTracker):
    """At a server, which says what it holds when the run is resumed there."""

    def check(self) -> None:
        try:
            if not wandb.login(prompt=False, verify=True):
                raise RefusedError(f"no credentials: {_KEY_REMEDY}")
        except AuthenticationError as error:
            response = getattr(error.__cause__, "response", None)
            if getattr(response, "http_status", 0) in (401, 403):
                raise RefusedError(f"the server refuses the credentials: {_KEY_REMEDY}") from error
            raise
        finally:
            wandb.teardown()

    def open(self, run: TrackedRun) -> str:
        self._take(run)
        remove_others(self._parent, run.key, None)
        settings = {"init_timeout": _PATIENCE, "x_skip_transaction_log": True}
        self._start("online", resume="allow", **settings)
        self._last = self._run.starting_step - 1
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], at: float) -> None:
        self._log(number, metrics, at)

    def close(self, state: State, tags: Mapping[str, str]) -> None:
        path = f"{self._run.entity}/{self._run.project}/{self._run.id}"
        if state != "running":
            self._finish(state, tags)
        if self._last >= 0:
            api = wandb.Api(timeout=math.ceil(_PATIENCE))
            held = lambda: api.run(path).lastHistoryStep >= self._last  # noqa: E731
            _wait(held, _INDEXING, f"the server does not show round {self._last} yet")
        remove_others(self._parent, self._run.id, None)
        if state != "running":
            wandb.teardown()


# The metrics are the run's own: nothing of this process, its machine or its repository.
_QUIET: Mapping[str, Any] = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "use_dot_wandb": False,
    "reinit": "create_new",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_history_value_encoding": "json",
}


def _end_client() -> None:
    """Ends what an attempt that failed has left, also if the client's process was killed, and with it its socket."""
    with suppress(Exception):
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    for rest in Path(tempfile.gettempdir()).glob(f"wandb-{os.getpid()}-*"):
        shutil.rmtree(rest, ignore_errors=True)


def _wait(is_so: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Raises TimeoutError when it is not so in time."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(_FLUSH / 4)


def open_tracker(options: Mapping[str, Any], directory: Path) -> OfflineTracker | OnlineTracker:
    mode = options.get("mode") or os.environ.get("WANDB_MODE") or "online"
    if mode in ("offline", "dryrun"):
        return OfflineTracker(options)
    if mode in ("online", "run"):
        return OnlineTracker(options)
    raise RefusedError(f"WANDB_MODE is {mode}: set it, or mode, to online or offline")
