"""A small task in plain torch: a low-rank adapter of one linear map learns each client's map. Some fits fail."""

import hashlib
import json
import os
import resource
import time

import numpy as np
import torch
from chaotic_wire import ASKED, Wire
from prelort_worker.training.partial_sum import HeldUpdates
from prelort_worker.wire.frames import Payload, Tensor, pack_clients
from prelort_worker.wire.messages import (
    ClientColumns,
    Collect,
    Evaluated,
    Fit,
    Fitted,
    Grant,
    IndexFile,
    Load,
    Loaded,
    ModuleShape,
    Prepare,
    Prepared,
    Source,
    TallyColumns,
)

IN, OUT, EXAMPLES = 48, 32, 64
FAULTS = ("truncated frame", "flipped frame", "duplicated reply", "late reply", "exit", "exception", "memory limit")


def plain_clients(count: int) -> Payload:
    zeros, none = bytes(4 * count), b""
    tally = TallyColumns(zeros, none, none)
    ids, n = [f"c{index}" for index in range(count)], np.full(count, EXAMPLES, "<u4").tobytes()
    return pack_clients(ClientColumns(ids, n, zeros, zeros, zeros, tally, tally, []))


def seed_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")


def data_of(client: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The map shared by all clients, plus a little of the client's own."""
    shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed_of(client))
    target = torch.randn(OUT, 6, generator=shared) @ torch.randn(6, IN, generator=shared) / 6
    target = target + 0.1 * torch.randn(OUT, IN, generator=own)
    x = torch.randn(EXAMPLES, IN, generator=own)
    return x, x @ target.T


def loss_of(rows: torch.Tensor, scale: float, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    a, b = rows[:, :IN], rows[:, IN:]
    return ((scale * (x @ a.T) @ b - y) ** 2).mean()


class SmallTask:
    """Replaces prelort_worker.task_runner.TaskRunner."""

    def __init__(self) -> None:
        self.held = HeldUpdates()

    def grant(self, grant: Grant) -> None:
        self.held.grant(grant)

    def run(self, task, payload, report, say=None):
        ids = {"task_id": task.task_id, "attempt": task.attempt}
        if isinstance(task, Prepare):
            index = IndexFile("chaos", "0" * 64)
            return Prepared(
                **ids,
                index=index,
                data_sha256="0" * 64,
                sources=None,
                labels=[],
                n_eval=EXAMPLES,
                n_truncated=0,
                remarks=[],
                tensors=[],
            ), plain_clients(ASKED["clients"])
        if isinstance(task, Load):
            modules = [ModuleShape("map", IN, OUT)]
            return Loaded(
                **ids,
                modules=modules,
                dense=[],
                n_parameters=IN * OUT,
                peft_type=None,
                modules_to_save=[],
                left_out=[],
                source=Source(None, []),
                tensors=[],
            ), {}
        if isinstance(task, Collect):
            return self.held.collect(task)
        received = torch.from_numpy(np.frombuffer(payload["rows"].data, "<f4").reshape(payload["rows"].shape).copy())
        if isinstance(task, Fit):
            return self.fit(task, received, report)
        x, y = data_of("held out")
        losses = [float(loss_of(received[:r], task.scale, x, y)) for r in task.ranks]
        table = np.ones((2, len(losses) * task.count))
        table[0] = np.repeat(losses, task.count)
        values: Payload = {"examples": Tensor(table.shape, table.reshape(-1).view(np.uint8).data, "F64")}
        return Evaluated(**ids, columns=["loss", "targets"], metrics=[], seconds=0.0, tensors=[]), values

    def fit(self, task, received, report):
        fault = choose_fault(task)
        if fault:
            strike(fault)
        started = time.monotonic()
        x, y = data_of(task.client_id)
        rows = received.clone().requires_grad_()
        optimizer = torch.optim.AdamW([rows], lr=task.fit.lr, weight_decay=0)
        losses = []
        order = torch.Generator().manual_seed(int(task.seed[:12], 16))
        for step in range(task.fit.local_steps):
            report(f"fit {task.client_id}", step, task.fit.local_steps)
            batch = torch.randperm(EXAMPLES, generator=order)[: task.fit.batch_size]
            loss = loss_of(rows, task.scale, x[batch], y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        delta = (rows.detach() - received).contiguous().numpy()
        update: Payload = {"rows": Tensor(delta.shape, delta.reshape(-1).view(np.uint8).data)}
        norm = self.held.hold(task, update, task.partial_sum) if task.partial_sum else None
        mean = sum(losses) / len(losses)
        fitted = Fitted(
            task_id=task.task_id,
            attempt=task.attempt,
            client_id=task.client_id,
            r=task.r,
            scale=task.scale,
            n=EXAMPLES,
            steps=len(losses),
            passes=len(losses),
            loss=mean,
            rms_loss=(sum(loss**2 for loss in losses) / len(losses)) ** 0.5,
            seconds=time.monotonic() - started,
            peak_memory_bytes=None,
            norm=norm,
            tensors=[],
        )
        return fitted, {} if task.partial_sum else update


def choose_fault(task: Fit) -> str | None:
    draw = seed_of(ASKED["seed"], task.task_id, task.attempt)
    if task.attempt > 2 or draw % 1000 >= 1000 * ASKED["rate"]:
        return None
    fault = FAULTS[draw // 1000 % len(FAULTS)]
    with open(ASKED["log"], "a", encoding="utf-8") as log:  # noqa: PTH123 - one write of one line
        log.write(json.dumps({"fault": fault, "task": task.task_id, "attempt": task.attempt}) + "\n")
    return fault


def strike(fault: str) -> None:
    if fault == "exit":
        os._exit(7)
    if fault == "exception":
        raise ValueError("the loss exploded, says the chaos")
    if fault == "memory limit":
        exceed_memory()
    Wire.fault = fault


def exceed_memory() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**28, limits[1]))
    try:
        torch.zeros(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
