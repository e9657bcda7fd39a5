"""
Weights & Biases: a run of a project, at its server, or offline in the run's folder. Its client hands everything to a
process of its own, which sends it, or writes it within a second. What was on its way when that process ended is handed
over again by the next one, which begins after what the server or the files hold.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from .own_files import own_folder
from .tracker import Ending, RefusedError, Sample, TrackedRun
from .wandb_client import OWN_METRICS_ALONE, end_client, errors, log_client, wandb
from .wandb_folders import KeptRun, folders_of, read_folder, read_kept

# 255 is what its client gives a run that Ctrl-C ended.
_EXIT_CODES = {"finished": 0, "failed": 1, "killed": 255}
_STATE = "prelort.state"
# Seconds: between writes to its file; for a server to answer; to answer when a run begins; to show what it was sent.
_FLUSH, _ANSWER, _PATIENCE, _INDEXING = 1.0, 6, 20, 60
_KEY_REMEDY = "set WANDB_API_KEY to the key from your W&B settings page, or keep the run here with mode: offline"


class WandbTracker:
    """What both modes share: the run that the client has open, and where it keeps its files."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._tracked: TrackedRun
        # Of the client; None until there is something to tell it.
        self._run: Any = None
        self._last = -1

    def check(self) -> None:
        try:
            wandb.Settings(**self._chosen())
        except (errors.UsageError, ValueError) as error:
            raise RefusedError(_first_fault(error)) from error

    def last_round(self) -> int:
        return self._last

    def _chosen(self) -> dict[str, Any]:
        """The options, as settings of the client. What is left out is read from its variables."""
        options = self._options
        chosen = {
            "project": options.get("project") or os.environ.get("WANDB_PROJECT") or "prelort",
            "entity": options.get("entity"),
            "run_group": options.get("group"),
            "run_tags": options.get("tags"),
        }
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def _parent(self) -> Path:
        return self._tracked.directory / "wandb"

    @property
    def _log_folder(self) -> Path:
        return self._parent / "log"

    def _take(self, run: TrackedRun) -> None:
        self._tracked = run
        own_folder(self._parent)

    def _start(self, mode: str, **settings: Any) -> None:
        end_client()
        own_folder(self._log_folder)
        log_client(self._log_folder)
        run = self._tracked
        self._run = wandb.init(
            id=run.key,
            resume="allow",
            mode=mode,
            dir=str(run.directory),
            name=self._options.get("run_name") or run.name,
            config={**run.params, **run.tags},
            settings=wandb.Settings(**OWN_METRICS_ALONE, **self._chosen(), **settings),
        )

    def _log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        self._run.log({**metrics, **_texts(samples), "_timestamp": at}, step=number, commit=True)
        self._last = number

    def _finish(self, ending: Ending) -> None:
        self._run.config.update({_STATE: ending.state, **ending.tags}, allow_val_change=True)
        self._run.summary.update(ending.best)
        self._run.finish(exit_code=_EXIT_CODES[ending.state])

    def _remove_log(self) -> None:
        """The log of the client's process, and the links to it."""
        shutil.rmtree(self._log_folder, ignore_errors=True)
        for folder in folders_of(self._parent, self._tracked.key, "offline-run"):
            (folder / "logs" / "debug-core.log").unlink(missing_ok=True)


class OfflineTracker(WandbTracker):
    """In folders that `wandb sync` sends to a server."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._kept = KeptRun()
        # That is written to.
        self._folder: Path | None = None

    def open(self, run: TrackedRun) -> str:
        self._take(run)
        self._kept = read_kept(self._parent, run.key)
        self._last = self._kept.last_round
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        if self._folder is None:
            self._begin()
        self._log(number, metrics, samples, at)

    def close(self, ending: Ending) -> None:
        is_running = ending.state == "running"
        if self._folder is None and (is_running or self._is_closed(ending)):
            return
        folder = self._folder or self._begin()
        if is_running:
            _wait(lambda: self._is_written(folder), 10 * _FLUSH, f"{folder} is not written")
            return
        self._finish(ending)
        end_client()
        if not self._is_written(folder):
            raise OSError(f"{folder} lacks rounds that W&B was given: is the disk full?")
        self._remove_log()

    def _begin(self) -> Path:
        self._start("offline", x_transaction_log_flush_interval=_FLUSH)
        self._folder = Path(self._run.settings.sync_dir)
        return self._folder

    def _is_closed(self, ending: Ending) -> bool:
        """The latest folder says already how the run ended."""
        config, wanted = self._kept.config, {_STATE: ending.state, **ending.tags}
        is_best = all(self._kept.summary.get(name) == value for name, value in ending.best.items())
        return self._kept.exit_code is not None and is_best and all(config.get(name) == wanted[name] for name in wanted)

    def _is_written(self, folder: Path) -> bool:
        return max(read_folder(folder, self._tracked.key).last_round, self._kept.last_round) == self._last


class OnlineTracker(WandbTracker):
    """At a server, which says what it holds when the run is resumed there."""

    def check(self) -> None:
        super().check()
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
        self._remove_folders()
        self._start("online", init_timeout=_PATIENCE, x_skip_transaction_log=True)
        self._last = self._run.starting_step - 1
        return run.key

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        self._log(number, metrics, samples, at)

    def close(self, ending: Ending) -> None:
        is_running = ending.state == "running"
        if not is_running:
            self._finish(ending)
        if self._last >= 0:
            api = wandb.Api(timeout=_PATIENCE)
            # Where it makes a folder for files of a run that it is asked about.
            with mock.patch.dict(os.environ, WANDB_DIR=str(self._log_folder)):
                _wait(lambda: self._is_held(api), _INDEXING, f"the server does not show round {self._last} yet")
        # It would end the run there.
        if not is_running:
            end_client()
        self._remove_folders()

    def _is_held(self, api: Any) -> bool:
        return api.run(f"{self._run.entity}/{self._run.project}/{self._tracked.key}").lastHistoryStep >= self._last

    def _remove_folders(self) -> None:
        """The server has it all."""
        self._remove_log()
        for folder in folders_of(self._parent, self._tracked.key, "run"):
            shutil.rmtree(folder, ignore_errors=True)


def _texts(samples: Sequence[Sample]) -> dict[str, str]:
    """
    Text in the round's own row, with which it arrives or does not. Its client's Table is a file and an artifact beside
    the row, which may arrive without it and whose copies stay in a folder of the user's.
    """
    found: dict[str, str] = {}
    for place, sample in enumerate(samples, 1):
        found |= {f"samples/{place}/prompt": sample.prompt, f"samples/{place}/reference": sample.reference}
        found |= {f"samples/{place}/tier/{r}": text for r, text in sample.answers.items()}
    return found


def _first_fault(error: Exception) -> str:
    """The client's own words, or those of the library that it checks settings with, which names the setting above."""
    lines = str(error).splitlines()
    return ": ".join(line.split(" [type=")[0].strip() for line in (lines[1:3] if len(lines) > 2 else lines))


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
        time.sleep(seconds / 60)


def open_tracker(options: Mapping[str, Any], directory: Path) -> OfflineTracker | OnlineTracker:
    try:
        # Of the environment, or as the command `wandb offline` has left it.
        mode = options.get("mode") or wandb.setup().settings.mode
    except (errors.UsageError, ValueError) as error:
        raise RefusedError(f"a variable WANDB_… is wrong: {_first_fault(error)}") from error
    if mode in ("offline", "dryrun"):
        return OfflineTracker(options)
    if mode in ("online", "run"):
        return OnlineTracker(options)
    raise RefusedError(f"WANDB_MODE is {mode}: set it, or mode, to online or offline")
