"""
The parent of one worker, as a Ray actor: it reserves what the worker uses, starts it, and tells how it ends. When Ray
ends the actor, in whatever way, the worker's standard input ends, which kills the worker.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ray  # pyright: ignore[reportMissingImports]

from ..wire.keys import KEY_PREFIX

_KEY_LINE = re.compile(rb"\n" + KEY_PREFIX.encode() + rb"(\S{40})\r?\n")
# The end of the worker's output that is kept.
_LOG_BYTES = 16 * 1024
# How long a worker may take to make its key pair, for which it imports little.
_KEY_SECONDS = 120
# How long the rest of the output may take once the worker has ended; a child of its own may hold the pipe open.
_REST_SECONDS = 1


@dataclass(frozen=True)
class Start:
    """The worker to start."""

    # The interpreter; empty for the one that runs the actor.
    python: str
    # For the worker's program.
    options: list[str]
    server_key: str


@dataclass(frozen=True)
class Running:
    host: str
    node: str
    public_key: str


@dataclass(frozen=True)
class Ended:
    """How the worker's process ended, or why there was none."""

    exit_code: int | None
    signal: str | None
    problem: str | None
    log: str


class WorkerParent:
    """
    Its methods run in threads of the actor: `start` first, `wait` and `end` beside it. They raise nothing that is the
    worker's fault.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log = _Tail()
        self._reader: threading.Thread | None = None
        self._has_started = threading.Event()
        self._problem: str | None = None

    def start(self, start: Start) -> Running | Ended:
        try:
            public_key = self._start(start)
        except OSError as error:
            self._problem = f"{socket.gethostname()}: {error}"
            public_key = None
        finally:
            self._has_started.set()
        if public_key is None:
            self.end()
            return self.wait()
        return Running(socket.gethostname(), ray.get_runtime_context().get_node_id(), public_key)

    def wait(self) -> Ended:
        self._has_started.wait()
        if not self._process:
            return Ended(None, None, self._problem, "")
        code = self._process.wait()
        if self._reader:
            self._reader.join(_REST_SECONDS)
        log = self._log.text()
        if code < 0:
            return Ended(None, signal.Signals(-code).name, self._problem, log)
        return Ended(code, None, self._problem, log)

    def end(self) -> None:
        """The worker with its children: it leads a group of its own."""
        if self._process and self._process.poll() is None:
            with suppress(ProcessLookupError):  # it is ending at this moment
                os.killpg(self._process.pid, signal.SIGKILL)

    def _start(self, start: Start) -> str | None:
        """The worker's public key; None if it ended, or took too long, before it made one."""
        run = Path(__file__).resolve().parents[2] / "run.py"
        process = self._process = subprocess.Popen(
            [start.python or sys.executable, str(run), "prelort_worker.__main__", *start.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(run.parent),
            # Not a group of Ray's: what ends that group must not be what decides about the worker.
            start_new_session=True,
        )
        assert process.stdin and process.stdout  # both are pipes
        self._reader = threading.Thread(target=self._log.read, args=[process.stdout], daemon=True)
        self._reader.start()
        with suppress(BrokenPipeError):  # it has ended, and its exit code and output say why
            process.stdin.write(json.dumps({"server_key": start.server_key}).encode() + b"\n")
            process.stdin.flush()  # and stays open: its end is the worker's
        if not self._log.key_or_end.wait(_KEY_SECONDS):
            self._problem = f"{socket.gethostname()}: the worker made no key pair within {_KEY_SECONDS} s"
        return self._log.key


class _Tail:
    """The end of a worker's output, and its public key."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.key_or_end = threading.Event()
        self._bytes = b"\n"

    def read(self, output: IO[bytes]) -> None:
        while data := os.read(output.fileno(), _LOG_BYTES):
            self._bytes += data
            if self.key is None and (found := _KEY_LINE.search(self._bytes)):
                self.key = found[1].decode("latin1")
                self._bytes = self._bytes.replace(found[0], b"\n", 1)
                self.key_or_end.set()
            self._bytes = self._bytes[-_LOG_BYTES:]
        self.key_or_end.set()

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace").strip()


def _environment(folder: Path) -> dict[str, str]:
    """
    Ray's own, which limits the devices that the worker sees. None of the PYTHON* variables: they are meant for Ray's
    interpreter, and the worker's may be another.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
