"""Ensures that a worker does not outlive its controller."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """On Linux the kernel kills this process, even if stopped, when its parent exits; elsewhere stdin's end does."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent_pid:  # the parent exited before the call above
            sys.exit(f"prelort-worker: the controller (pid {parent_pid}) is gone")
    else:
        threading.Thread(target=_end_with_stdin, name="prelort-parent", daemon=True).start()


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(1)
