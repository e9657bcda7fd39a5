"""
A worker that trains nothing: each fit answers with the same small change, of the size that it received. It measures
the cost of everything but training, with the real worker's wire, threads and lifetime.

    PRELORT_BENCH_ECHO='{"clients": 10, "in": 4, "out": 4, "frames": null, "shares": false}' python echo_worker.py …

with the worker's options. `frames`: where to write, at the end, the bytes of all frames of fits in each direction.
`shares`: whether workers of one machine share memory with one another.
"""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prelort_worker import __main__ as worker
from prelort_worker.lifetime import die_with_parent
from prelort_worker.serve import serve
from prelort_worker.training.partial_sum import HeldUpdates
from prelort_worker.wire import connection as wired
from prelort_worker.wire.frames import Payload, Tensor, pack_clients
from prelort_worker.wire.messages import (
    Chunk,
    ClientColumns,
    Collect,
    Device,
    End,
    Evaluated,
    Fit,
    Fitted,
    Grant,
    Hello,
    IndexFile,
    Load,
    Loaded,
    ModuleShape,
    Prepare,
    Prepared,
    Source,
    TallyColumns,
)
from prelort_worker.wire.shared_memory import can_share_with, memory_domain

ASKED = json.loads(os.environ["PRELORT_BENCH_ECHO"])
EXAMPLES = 100
CHANGE = 2**-10


def plain_clients(count: int) -> Payload:
    zeros, none = bytes(4 * count), b""
    tally = TallyColumns(zeros, none, none)
    ids, n = [f"c{index}" for index in range(count)], np.full(count, EXAMPLES, "<u4").tobytes()
    return pack_clients(ClientColumns(ids, n, zeros, zeros, zeros, tally, tally, []))


@dataclass
class Frames:
    down: int = 0
    up: int = 0
    # Fits with frames that are being counted.
    ids: set[str] = field(default_factory=set)


@dataclass
class Echo:
    """Replaces prelort_worker.task_runner.TaskRunner."""

    changes: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    held: HeldUpdates = field(default_factory=HeldUpdates)

    def run(self, task, payload, report, say=None):
        ids = {"task_id": task.task_id, "attempt": task.attempt}
        if isinstance(task, Prepare):
            index = IndexFile("echo", "0" * 64)
            known = {"index": index, "data_sha256": "0" * 64, "sources": None, "labels": [], "remarks": []}
            return Prepared(**ids, **known, n_eval=1, n_truncated=0, tensors=[]), plain_clients(ASKED["clients"])
        if isinstance(task, Load):
            modules = [ModuleShape("echo", ASKED["in"], ASKED["out"])]
            return Loaded(
                **ids,
                modules=modules,
                dense=[],
                n_parameters=1,
                peft_type=None,
                modules_to_save=[],
                left_out=[],
                source=Source(None, []),
                tensors=[],
            ), {}
        if isinstance(task, Fit):
            report(f"fit {task.client_id}", 0, 1)
            rows: Payload = {"rows": self.change(payload["rows"].shape)}
            norm = self.held.hold(task, rows, task.partial_sum) if task.partial_sum else None
            return Fitted(
                **ids,
                client_id=task.client_id,
                r=task.r,
                scale=task.scale,
                n=EXAMPLES,
                steps=1,
                passes=1,
                loss=1.0,
                rms_loss=1.0,
                seconds=0.0,
                peak_memory_bytes=None,
                norm=norm,
                tensors=[],
            ), {} if task.partial_sum else rows
        if isinstance(task, Collect):
            return self.held.collect(task)
        # A loss of 1 over one target, for every example.
        table = np.ones((2, len(task.ranks) * task.count))
        values: Payload = {"examples": Tensor(table.shape, table.reshape(-1).view(np.uint8).data, "F64")}
        return Evaluated(**ids, columns=["loss", "targets"], metrics=[], seconds=0.0, tensors=[]), values

    def grant(self, grant: Grant) -> None:
        self.held.grant(grant)

    def change(self, shape: tuple[int, ...]) -> Tensor:
        if shape not in self.changes:
            values = np.full(shape, CHANGE, np.float32)
            self.changes[shape] = Tensor(shape, values.reshape(-1).view(np.uint8).data)
        return self.changes[shape]


def count_frames(frames: Frames) -> None:
    pack, unpack = wired.pack, wired.unpack

    def counting_pack(message):
        packed = pack(message)
        if isinstance(message, Fitted | Chunk | End) and message.task_id in frames.ids:
            frames.up += sum(map(len, packed))
        return packed

    def counting_unpack(*packed):
        message = unpack(*packed)
        if isinstance(message, Fit):
            frames.ids.add(message.task_id)
        if isinstance(message, Fit | Chunk | End) and message.task_id in frames.ids:
            frames.down += sum(map(len, packed))
        return message

    wired.pack, wired.unpack = counting_pack, counting_unpack


def main() -> None:
    options = worker._parse_options()
    access = worker._gain_access(options) if options.curve else None
    die_with_parent(options.parent_pid)
    frames = Frames()
    if ASKED["frames"]:
        count_frames(frames)
    connection = wired.Connection(
        options.endpoint, options.worker_id, options.parent_pid, lambda error: sys.exit(str(error)), access
    )
    connection.report("idle")
    device, shares = Device("cpu", "echo", None, None), can_share_with(options.parent_pid)
    domain = memory_domain() if ASKED["shares"] else None
    connection.send(Hello(os.getpid(), {}, {}, device, options.threads, shares, "echo", domain))
    serve(connection, Echo())  # pyright: ignore[reportArgumentType] - it answers as a client does
    connection.close()
    if ASKED["frames"]:
        Path(ASKED["frames"]).write_text(json.dumps({"down": frames.down, "up": frames.up}))


main()
