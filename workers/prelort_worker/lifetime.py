"""Ensures that a worker does not outlive its controller."""

import ctypes
import fcntl
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1
_F_SETSIG = 10  # of Linux


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
        if sys.platform == "linux":
            _be_killed_with_stdin()
        threading.Thread(target=_end_with_stdin, name="prelort-parent", daemon=True).start()


def _be_killed_with_stdin() -> None:
    """The kernel sends SIGKILL when standard input ends, even if this process is stopped, or busy outside Python."""
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpid() if _leads_group() else os.getpid())
    fcntl.fcntl(0, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _end_with_stdin() -> None:
    # It may have ended before. Not through sys.stdin, whose lock this thread would hold while the interpreter ends.
    while os.read(0, 4096):
        pass
    if _leads_group():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _leads_group() -> bool:
    """As sshd starts it, for one. Its children end with it then, since nobody else there would end them."""
    return os.getpgrp() == os.getpid()
