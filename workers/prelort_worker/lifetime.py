"""Ensures that a worker does not outlive its controller."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """
    On Linux the kernel kills this process, even if stopped, when its parent exits. Elsewhere, and where the controller
    is not its parent (None), the end of standard input ends it.
    """
    if parent_pid is not None and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent_pid:  # the parent exited before the call above
            sys.exit(f"prelort-worker: the controller (pid {parent_pid}) is gone")
    else:
        threading.Thread(target=_end_with_stdin, name="prelort-parent", daemon=True).start()


def _end_with_stdin() -> None:
    # Not through sys.stdin, whose lock this thread would hold while the interpreter ends.
    while os.read(0, 4096):
        pass
    os._exit(1)
