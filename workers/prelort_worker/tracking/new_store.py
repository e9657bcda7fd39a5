"""
Makes a local store of MLflow aside, since MLflow cannot use one whose making was cut short, as by the end of a run that
waits no longer. The maker is a process of its own, which holds no connection to the file once it is moved:

    python workers/run.py prelort_worker.tracking.new_store sqlite:///made.db 4711
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..lifetime import die_with_parent

SQLITE = "sqlite:///"
_RUN = Path(__file__).resolve().parents[2] / "run.py"


def make_whole(store: Path) -> None:
    """Removes what a maker that was killed has left, even if the store is there by now."""
    folder = store.parent / f".{store.name}.prelort"
    if store.exists() and not os.path.lexists(folder):
        return
    with _stoppable(), _only_maker(folder):
        try:
            # Another run may have made it meanwhile.
            if not store.exists():
                _empty(folder)
                _make(folder / "made.db")
                (folder / "made.db").rename(store)
        finally:
            _empty(folder)
            folder.rmdir()


def _make(made: Path) -> None:
    words = [sys.executable, str(_RUN), __name__, f"{SQLITE}{made}", str(os.getpid())]
    maker = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = maker.communicate()
    finally:
        maker.kill()
        maker.wait()
    if maker.returncode != 0:
        last = (said.strip().splitlines() or [f"exit code {maker.returncode}"])[-1]
        raise RuntimeError(f"the store could not be made: {last}")


@contextmanager
def _only_maker(folder: Path) -> Iterator[None]:
    """Holds a lock on the folder, which the kernel frees when this process ends, however it ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had it has removed the folder when he was done.
            if not _is_there(folder, lock):
                continue
            yield
            return
        finally:
            os.close(lock)


def _is_there(folder: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.lstat(folder), os.fstat(lock))
    except FileNotFoundError:
        return False


@contextmanager
def _stoppable() -> Iterator[None]:
    """The controller asks the process to end before it kills it, so that nothing is left of a store half made."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _empty(folder: Path) -> None:
    for rest in folder.iterdir():
        with suppress(FileNotFoundError):
            rest.unlink()


def main() -> None:
    uri, parent_pid = sys.argv[1:]
    if sys.platform == "linux":
        die_with_parent(int(parent_pid))
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    MlflowClient(uri).search_experiments()


if __name__ == "__main__":
    main()
