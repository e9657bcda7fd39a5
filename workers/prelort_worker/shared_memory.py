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

# One call writes less than 2 GiB.
MOST_AT_ONCE = 2**30


def can_share_with(pid: int) -> bool:
    """Whether memory can be lent to a process, and borrowed from it."""
    return hasattr(os, "memfd_create") and os.access(f"/proc/{pid}/fd", os.R_OK)


def borrow(pid: int, fd: int, offset: int, size: int) -> memoryview:
    """So many bytes that a process lends. They may be written to, which that process does not see."""
    if size == 0:
        return memoryview(bytearray())
    file = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(file).st_size < offset + size:
            raise OSError(f"the shared file ends before byte {offset + size}")
        # A mapping begins at a page, so it takes in what comes before.
        mapping = mmap.mmap(file, offset + size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(file)
    return memoryview(mapping)[offset:]


class Lender:
    """Files that lend what answers carry, used again once it has been received. For one thread."""

    def __init__(self) -> None:
        self._lent: dict[object, int] = {}
        self._spare: list[int] = []

    def lend(self, key: object, tensors: Mapping[Name, memoryview]) -> dict[Name, Shared]:
        """Where each lies, until `key` is received. OSError where there is no room for them."""
        file = self._spare.pop() if self._spare else os.memfd_create("prelort")
        places: dict[Name, Shared] = {}
        end = 0
        try:
            for name, data in tensors.items():
                places[name] = Shared(file, end)
                _write(file, data, end)
                end += data.nbytes
        except OSError:
            os.close(file)
            raise
        self._lent[key] = file
        return places

    def received(self, key: object) -> None:
        file = self._lent.pop(key, None)
        if file is not None:
            self._spare.append(file)


def _write(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < data.nbytes:
        done += os.pwrite(file, data[done : done + MOST_AT_ONCE], offset + done)
