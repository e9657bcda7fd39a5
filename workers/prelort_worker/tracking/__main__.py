"""
The process of one tracker:

    python workers/run.py prelort_worker.tracking.__main__ check --name mlflow --options '{"experiment": "a"}'
    python workers/run.py prelort_worker.tracking.__main__ deliver --name mlflow --directory runs/a --parent-pid 4711

It writes a JSON object a line to standard output. `check` answers once. `deliver` reports what it has delivered, and
ends once the run has ended, which a line on standard input says: {"state": "finished"}, with `best` and `stopped` as
they are in the journal's last entry.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from ..lifetime import die_with_parent
from .deliver import deliver
from .figures import ending_of
from .find import NAMES, find_tracker
from .secrets import in_words, without_secrets
from .tracker import Ending, RefusedError


class Pipes:
    """The channel to the controller: its lines on standard input, ours on what was standard output."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._told = threading.Event()
        self._ending: Ending | None = None
        threading.Thread(target=self._listen, name="prelort-orders", daemon=True).start()

    def ending(self) -> Ending | None:
        return self._ending

    def wait(self, seconds: float) -> None:
        # Once the run has ended there is nothing to wait for but the tracker.
        if self._told.is_set():
            self._told.clear()
        else:
            self._told.wait(seconds)

    def report(self, kind: str, **fields: Any) -> None:
        self._output.write(f"{json.dumps({'type': kind, **fields})}\n")
        self._output.flush()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._ending = ending_of(json.loads(line))
            self._told.set()
        # The controller keeps it open as long as it wants anything delivered.
        os._exit(1)


def check(name: str, options: dict[str, Any], directory: Path) -> dict[str, str]:
    """Whether a tracker can be used: `ok`, `missing` a package, `refused`, or `unreachable` at the moment."""
    try:
        find_tracker(name, options, directory)().check()
    except ImportError as error:
        return {"type": "missing", "message": str(error)}
    except RefusedError as error:
        return {"type": "refused", "message": without_secrets(str(error))}
    except Exception as error:
        return {"type": "unreachable", "message": in_words(error)}
    return {"type": "ok"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="prelort-tracking")
    parser.add_argument("what", choices=["check", "deliver"])
    parser.add_argument("--name", required=True, choices=NAMES)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int)
    arguments = parser.parse_args()
    # Elsewhere than on Linux, standard input tells of the parent's end: a check's from here on, a delivery's in Pipes.
    if arguments.parent_pid is not None and (sys.platform == "linux" or arguments.what == "check"):
        die_with_parent(arguments.parent_pid)
    # Clients print; what they print is not our protocol.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, options, directory = arguments.name, arguments.options, arguments.directory.resolve()
    if arguments.what == "check":
        output.write(f"{json.dumps(check(name, options, directory))}\n")
        output.flush()
    else:
        try:
            deliver(name, options, directory, find_tracker(name, options, directory), Pipes(output))
        except SystemExit:
            # Asked to end. An ordinary end would wait for the thread that reads standard input.
            os._exit(1)
    output.flush()
    # Threads of a client may wait for a server that is gone.
    os._exit(0)


if __name__ == "__main__":
    main()
