"""
Memory that the controller and a worker on its machine hand to each other: files without a name, each of which the
other opens through /proc by its owner's number and descriptor. The kernel frees one with the last process that holds
it, however that ends. Linux alone has all of this.
"""

import mmap
import os
from collections.abc import Mapping
from typing import TypeVar

from .messages import Shared

Name = TypeVar("Name", bound=str)

# What byte 0 of a file says, and where the data begins.
_LENT, _RETURNED, _START = b"\0", b"\1", 64
# One call writes less than 2 GiB.
MOST_AT_ONCE = 2**30


def can_share_with(pid: int) -> bool:
    """Whether memory can be lent to a process, and borrowed from it."""
    return hasattr(os, "memfd_create") and os.access(f"/proc/{pid}/fd", os.R_OK)


def borrow(pid: int, fd: int, offset: int, size: int) -> memoryview:
    """So many bytes that a process lends. They may be written to, which that process does not see."""
    if size == 0:
        return memoryview(bytearray())
    # What is no file, such as a pipe that nobody writes to, must not hold us up.
    file = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if os.fstat(file).st_size < offset + size:
            raise OSError(f"the shared file ends before byte {offset + size}")
        # A mapping begins at a page, so it takes in what comes before.
        mapping = mmap.mmap(file, offset + size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(file)
    return memoryview(mapping)[offset:]


class Lender:
    """
    Files that lend what answers carry, used again once they have been read: whoever has read one writes 1 over its byte
    0. For one thread.
    """

    def __init__(self) -> None:
        self._files: list[int] = []

    def lend(self, tensors: Mapping[Name, memoryview]) -> dict[Name, Shared]:
        """Where each lies. OSError where there is no room for them."""
        file = next((file for file in self._files if os.pread(file, 1, 0) == _RETURNED), None)
        if file is None:
            file = os.memfd_create("prelort")
            self._files.append(file)
        places: dict[Name, Shared] = {}
        end = _START
        try:
            for name, data in tensors.items():
                places[name] = Shared(file, end)
                _write(file, data, end)
                end += data.nbytes
        except OSError:
            self._files.remove(file)
            os.close(file)
            raise
        os.pwrite(file, _LENT, 0)
        return places


def _write(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < data.nbytes:
        done += os.pwrite(file, data[done : done + MOST_AT_ONCE], offset + done)
