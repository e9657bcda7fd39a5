"""The reader of W&B's files: whole records, and none after the first that is cut off or damaged."""

from __future__ import annotations

import io
import zlib

import pytest
from prelort_worker.tracking.leveldb_log import read_records

BLOCK = 32768
HEADER = b":W&B\xe1\xbe\x00"


def chunk(kind: int, data: bytes) -> bytes:
    checksum = zlib.crc32(bytes([kind]) + data)
    return checksum.to_bytes(4, "little") + len(data).to_bytes(2, "little") + bytes([kind]) + data


def written(*records: bytes) -> bytes:
    """A log as LevelDB's documentation describes it."""
    log = bytearray(HEADER)
    for record in records:
        rest, is_first = record, True
        while is_first or rest:
            room = BLOCK - len(log) % BLOCK
            if room < 7:
                log += bytes(room)
                continue
            data, rest = rest[: room - 7], rest[room - 7 :]
            log += chunk({(1, 1): 1, (1, 0): 2, (0, 0): 3, (0, 1): 4}[is_first, not rest], data)
            is_first = False
    return bytes(log)


def read(log: bytes) -> list[bytes]:
    return [record for record, _ in read_records(io.BytesIO(log))]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [b"a", b"bc"],
        [b"a" * 3 * BLOCK, b"b"],
        # Leaves room for a chunk without data, and six, seven and eight bytes at the end of a block.
        *([b"a" * (BLOCK - 7 - 7 - room), b"b" * 20, b"c"] for room in (6, 7, 8)),
    ],
    ids=[
        "none",
        "two of one block",
        "one of four blocks",
        "padding",
        "an empty first part",
        "a first part of one byte",
    ],
)
def test_records_are_read_as_they_were_written(records: list[bytes]):
    assert read(written(*records)) == records


def test_a_log_that_is_cut_off_anywhere_gives_the_records_that_are_whole():
    records = [b"a", b"b" * (BLOCK + 9), b"c" * 30]
    log = written(*records)
    ends = [len(written(*records[:count])) for count in range(len(records) + 1)]
    for end in [*range(40), *range(BLOCK - 40, BLOCK + 40), *range(len(log) - 60, len(log) + 1)]:
        whole = max((count for count, at in enumerate(ends) if at <= end), default=0)
        assert read(log[:end]) == records[:whole]
        assert [at for _, at in read_records(io.BytesIO(log[:end]))] == ends[1 : whole + 1]


def test_nothing_is_read_beyond_a_byte_that_changed():
    log = written(b"abc", b"defg", b"hi")
    second = len(written(b"abc"))
    for at in range(second, len(written(b"abc", b"defg"))):
        assert read(log[:at] + bytes([log[at] ^ 0x55]) + log[at + 1 :]) == [b"abc"]


@pytest.mark.parametrize("kinds", [[3], [4], [2, 1], [2, 2], [1, 3], [2, 3, 1]])
def test_parts_that_make_no_record_are_not_read(kinds: list[int]):
    log = written(b"abc") + b"".join(chunk(kind, b"x") for kind in kinds)
    assert read(log) == [b"abc", *([b"x"] if kinds[0] == 1 else [])]


def test_another_file_holds_no_records():
    assert read(b"") == []
    assert read(b"#!/bin/sh\n" + written(b"a")) == []
