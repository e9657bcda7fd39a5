"""
Reads the log format of LevelDB (https://github.com/google/leveldb/blob/main/doc/log_format.md), as W&B's files have it:
with a header of W&B's own, and plain CRC-32 as checksums.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK = 32768
# Checksum of kind and data, length of the data, kind.
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(log: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Every record, and the position after it, up to the end or to the first that is cut off or damaged."""
    if log.read(len(_HEADER)) != _HEADER:
        return
    parts: list[bytes] = []
    for kind, data, end in _chunks(log, len(_HEADER)):
        if (kind in (_FULL, _FIRST)) == bool(parts):
            return
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts), end
            parts = []


def _chunks(log: BinaryIO, at: int) -> Iterator[tuple[int, bytes, int]]:
    """`at` is the position in the log. A chunk lies in one block; what is too short for another one is padding."""
    while block := log.read(_BLOCK - at % _BLOCK):
        start = 0
        while len(block) - start >= _CHUNK.size:
            checksum, length, kind = _CHUNK.unpack_from(block, start)
            start += _CHUNK.size
            data = block[start : start + length]
            if not _FULL <= kind <= _LAST or len(data) < length:
                return
            if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
                return
            start += length
            yield kind, data, at + start
        at += len(block)
