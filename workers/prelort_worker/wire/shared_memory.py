"""
Shared memory between the controller and a worker on the same machine: anonymous files, which the other process opens
through /proc by the owner's process id and file descriptor. The kernel frees one when the last process that holds it
exits, however it exits. Only Linux supports all of this.
"""

import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import TypeVar

from .fields import Shared

Name = TypeVar("Name", bound=str)

# States in byte 0 of a file, and the offset of the data.
_LENT, _RETURNED, _START = b"\0", b"\1", 64
# A single call writes less than 2 GiB.
MOST_AT_ONCE = 2**30


def can_share_with(pid: int) -> bool:
    """Whether memory can be shared with a process in both directions."""
    return hasattr(os, "memfd_create") and os.access(f"/proc/{pid}/fd", os.R_OK)


def memory_domain() -> str | None:
    """
    Processes with the same value can read one another's memory: on one machine, of one user, in the same namespaces.
    None where memory cannot be shared.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespaces = [f"{Path('/proc/self/ns', name).readlink()}" for name in ("user", "pid", "net")]
    except OSError:
        return None
    # A virtual machine that was cloned while it ran has the boot and the namespaces of the other one.
    told = [boot, *namespaces, f"{os.getuid()}", gethostname(), *_network_cards()]
    return sha256(" ".join(told).encode()).hexdigest()[:32]


def _network_cards() -> list[str]:
    """Their addresses; not those of virtual interfaces, which come and go."""
    cards = sorted(Path("/sys/class/net").glob("*/device"))
    with suppress(OSError):
        return [(card.parent / "address").read_text(encoding="ascii").strip() for card in cards]
    return []


def borrow(pid: int, fd: int, offset: int, size: int) -> memoryview:
    """Maps bytes that a process shares. The mapping is private: that process does not see writes to it."""
    if size == 0:
        return memoryview(bytearray())
    # O_NONBLOCK, so that opening anything but a file, such as a pipe without a writer, does not block.
    path = f"/proc/{pid}/fd/{fd}"
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if os.fstat(file).st_size < offset + size:
            raise OSError(f"the shared file ends before byte {offset + size}")
        # What has a name is not what was lent: another process has this pid here.
        if os.fstat(file).st_nlink > 0 and not f"{Path(path).readlink()}".startswith("/memfd:"):
            raise OSError(f"{path} is not an unnamed file")
        # A mapping starts at a page boundary, so it includes what comes before.
        mapping = mmap.mmap(file, offset + size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(file)
    return memoryview(mapping)[offset:]


class Lender:
    """
    Files that carry the tensors of replies. A file is reused after its reader has set byte 0 to 1. Not thread-safe.
    """

    def __init__(self) -> None:
        self._files: list[int] = []

    def lend(self, tensors: Mapping[Name, memoryview]) -> dict[Name, Shared]:
        """The location of each tensor. Raises OSError where there is no room."""
        file = next((file for file in self._files if os.pread(file, 1, 0) == _RETURNED), None)
        if file is None:
            file = os.memfd_create("prelort")
            self._files.append(file)
        locations: dict[Name, Shared] = {}
        end = _START
        try:
            for name, data in tensors.items():
                locations[name] = Shared(None, file, end)
                _write(file, data, end)
                end += data.nbytes
        except OSError:
            self._files.remove(file)
            os.close(file)
            raise
        os.pwrite(file, _LENT, 0)
        return locations


class Shelf:
    """Files with bytes that the controller has this process keep, for all workers of the machine. Not thread-safe."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}

    def put(self, file: int, size: int, offset: int, data: memoryview) -> int:
        """The file's descriptor. Raises OSError where there is no room."""
        fd = self._files.get(file)
        if fd is None:
            fd = self._files[file] = os.memfd_create("prelort-kept")
        if os.fstat(fd).st_size != size:
            os.ftruncate(fd, size)
        _write(fd, data, offset)
        return fd


def _write(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < data.nbytes:
        done += os.pwrite(file, data[done : done + MOST_AT_ONCE], offset + done)
