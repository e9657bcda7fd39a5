"""W&B's client, kept from what it would do or leave behind beside tracking a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

# It would report errors of its own to its makers.
os.environ["WANDB_ERROR_REPORTING"] = "false"
# Of a program that tracks a run of its own, such as one that started the controller: ours is another run.
for _name in ("SERVICE", "SWEEP_ID", "SWEEP_PARAM_PATH", "LAUNCH", "RUN_ID", "RESUME", "RESUME_FROM", "FORK_FROM"):
    os.environ.pop(f"WANDB_{_name}", None)
# It reads settings in the working folder, such as where to send a key. In a run's folder they may be somebody else's.
if any((folder / "run.json").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
    os.chdir("/")

# When it is imported, it makes folders for media and artifacts, which nobody would remove after kill -9.
with mock.patch("tempfile.TemporaryDirectory"):
    wandb: Any = import_module("wandb")
    errors: Any = import_module("wandb.errors")
    Record: Any = import_module("wandb.proto.wandb_internal_pb2").Record
    _ServiceProcess: Any = import_module("wandb.sdk.lib.service.service_process").ServiceProcess

# Seconds for the client's process to end in. Nothing is lost with it: a run that is finished has been handed over.
_ENDING = 5

# Settings for a run that gets what we give it: nothing of this process, its machine, its repository or its output.
OWN_METRICS_ALONE: Mapping[str, Any] = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "use_dot_wandb": False,
    "reinit": "create_new",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_history_value_encoding": "json",
}


def log_client(folder: Path | None) -> None:
    """Where the client's process writes its log, which would else stay in the user's cache. Before it starts."""
    os.environ["WANDB_CACHE_DIR"] = os.devnull if folder is None else str(folder)


def _join(service: Any) -> int:
    """In place of the client's own, which waits without end; now and then its process never ends by itself (0.31)."""
    process: subprocess.Popen[bytes] = service._process
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Any other number would end our process as well.
    return 0


def end_client() -> None:
    """Ends the client's process. If it was killed, removes its socket, and lets another one start."""
    with suppress(Exception), mock.patch.object(_ServiceProcess, "join", _join):
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    for rest in Path(tempfile.gettempdir()).glob(f"wandb-{os.getpid()}-*"):
        shutil.rmtree(rest, ignore_errors=True)
