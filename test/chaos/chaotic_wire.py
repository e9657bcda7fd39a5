"""What a worker sends, altered by the faults that are due, and what it reads of others."""

import json
import os
from dataclasses import replace

from prelort_worker.wire import connection as wired
from prelort_worker.wire import mailbox
from prelort_worker.wire.messages import Chunk, Fitted

ASKED = json.loads(os.environ["PRELORT_CHAOS"])


def install(worker_id: str) -> None:
    wired.pack = Wire.pack
    wired.Connection.send = faulty_send
    note_sharing(worker_id)


class Wire:
    """Outgoing messages, altered by the faults that are due."""

    fault: str | None = None
    honest_pack = staticmethod(wired.pack)
    honest_send = wired.Connection.send

    @staticmethod
    def pack(message) -> list:
        *others, last = Wire.honest_pack(message)
        if Wire.fault == "truncated frame" and isinstance(message, Fitted | Chunk):
            Wire.fault = None
            return [*others, last[: len(last) // 2]]
        if Wire.fault == "flipped frame" and isinstance(message, Chunk):
            Wire.fault = None
            flipped = bytearray(last)
            flipped[len(flipped) // 2] ^= 16
            return [*others, flipped]
        return [*others, last]


def faulty_send(self: wired.Connection, message, payload=None) -> None:
    fault = Wire.fault
    if isinstance(message, Fitted) and fault in ("duplicated reply", "late reply"):
        Wire.fault = None
        # Repeats a part of an earlier attempt or of this one immediately.
        attempt = message.attempt + 7 if fault == "late reply" else message.attempt
        Wire.honest_send(self, replace(message, attempt=attempt), payload)
    Wire.honest_send(self, message, payload)


def note_sharing(worker_id: str) -> None:
    honest_borrow, noted = mailbox.borrow_payload, set()

    def borrow(descriptors, pid):
        payload = honest_borrow(descriptors, pid)
        if not noted and any(tensor.shared and tensor.shared.pid not in (None, os.getpid()) for tensor in descriptors):
            noted.add(worker_id)
            with open(ASKED["sharing"], "a", encoding="utf-8") as log:  # noqa: PTH123 - one write of one line
                log.write(json.dumps({"worker": worker_id}) + "\n")
        return payload

    mailbox.borrow_payload = borrow
