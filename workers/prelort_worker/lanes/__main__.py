"""
Several workers in one process. Each is a thread with a connection of its own, and to its controller a worker like any
other; their fits train side by side.

    python -m prelort_worker.lanes --parent-pid 4711 --device cpu --threads 1

Reads a line of JSON for every worker from standard input: {"lane": 0, "endpoint": "ipc:///…", "worker_id": "w0", "log":
"w0.log"} starts one, {"end": 0} ends it; writes {"ended": 0, "problem": null} to standard output once it has ended.
"""

import argparse
import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from ..__main__ import set_environment
from ..lifetime import die_with_parent

if TYPE_CHECKING:
    from ..wire.connection import Connection


def main() -> None:
    parser = argparse.ArgumentParser(prog="prelort_worker.lanes", description="Workers of prelort that train together.")
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--device", required=True, help="cpu, mps, cuda or cuda:N")
    parser.add_argument("--threads", required=True, type=int, help="torch threads")
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    answers = _own_output()
    set_environment(options.threads)
    os.environ["PRELORT_SIDE_BY_SIDE"] = "1"  # a run's record tells that its bytes may differ from those alone

    import torch  # noqa: F401
    import transformers

    from ..device import choose_device, make_repeatable
    from ..serve import say_hello, serve
    from .runner import LaneRunner, Shared

    transformers.utils.logging.disable_progress_bar()
    make_repeatable(options.threads)
    device, shared = choose_device(options.device), Shared()

    def work(connection: "Connection") -> None:
        shared.count(1)
        try:
            say_hello(connection, device, options.threads, options.parent_pid)
            serve(connection, LaneRunner(device, shared))
        finally:
            shared.count(-1)

    lanes = _Lanes(options.parent_pid, work, answers)
    for line in sys.stdin:
        lanes.hear(json.loads(line))
    os._exit(0)  # lanes that are under way hold threads that Python cannot end


def _own_output() -> TextIO:
    """Standard output, for this file alone; what else is printed, such as by a task of one's own, is logged."""
    own = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return own


class _Lanes:
    """Starts and ends lanes. `work` is what the thread of each does with its connection."""

    def __init__(self, controller_pid: int, work: "Callable[[Connection], None]", answers: TextIO) -> None:
        self._controller_pid, self._work, self._answers = controller_pid, work, answers
        self._logs = _Logs(sys.stderr)
        sys.stdout = sys.stderr = self._logs
        # Of the lanes that have not ended.
        self._connections: dict[int, Connection] = {}

    def hear(self, asked: dict[str, Any]) -> None:
        if "end" not in asked:
            self._begin(**asked)
        elif connection := self._connections.get(asked["end"]):
            connection.end()

    def _begin(self, lane: int, endpoint: str, worker_id: str, log: str) -> None:
        from ..wire.connection import Connection

        problems: list[str] = []

        def fail(error: BaseException) -> None:
            problems.append(f"{type(error).__name__}: {error}")

        connection = self._connections[lane] = Connection(endpoint, worker_id, self._controller_pid, fail)

        def run() -> None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(log, flags, 0o644), "a", buffering=1, encoding="utf-8") as own:
                self._logs.route(own)
                try:
                    self._work(connection)
                except BaseException as error:
                    fail(error)
                    traceback.print_exc()
                finally:
                    connection.close()
                    del self._connections[lane]
                    told = {"ended": lane, "problem": problems[0] if problems else None}
                    self._answers.write(f"{json.dumps(told)}\n")

        threading.Thread(target=run, name=f"lane-{lane}", daemon=True).start()


class _Logs(io.TextIOBase):
    """Standard error, which for the thread of a lane is that lane's log."""

    def __init__(self, otherwise: TextIO) -> None:
        self._otherwise = otherwise
        self._own = threading.local()

    def route(self, log: TextIO) -> None:
        self._own.log = log

    def write(self, text: str) -> int:
        return getattr(self._own, "log", self._otherwise).write(text)

    def flush(self) -> None:
        getattr(self._own, "log", self._otherwise).flush()


if __name__ == "__main__":
    main()
