"""A worker's conversation with its controller: hello, then one task after another."""

import os
import sys
import traceback
from socket import gethostname
from typing import TYPE_CHECKING

from .errors import InputError, UnpreparedError
from .machine import kernel_variables, versions
from .tracing import task_span
from .wire.connection import Cancelled, Connection
from .wire.mailbox import Job, cancelled_failure, key_of
from .wire.messages import ErrorReport, Failure, Grant, Hello, Problem, Stop
from .wire.shared_memory import can_share_with, memory_domain

if TYPE_CHECKING:
    import torch

    from .task_runner import TaskRunner

EXIT_LOST_SUM = 6


def say_hello(connection: Connection, device: "torch.device", threads: int, controller_pid: int | None) -> None:
    from .device import describe_device

    connection.report("idle")
    connection.send(
        Hello(
            os.getpid(),
            versions(),
            kernel_variables(),
            describe_device(device),
            threads,
            controller_pid is not None and can_share_with(controller_pid),
            gethostname(),
            memory_domain(),
        )
    )


def serve(connection: Connection, runner: "TaskRunner") -> None:
    while not isinstance(job := connection.take(), Stop):
        _handle(connection, runner, job)
        connection.report("idle")


def _handle(connection: Connection, runner: "TaskRunner", job: Job | Grant) -> None:
    if not isinstance(job, Grant):
        _answer(connection, runner, job)
        return
    try:
        runner.grant(job)
    except Exception:
        # The sum may hold a part of that update, and has no way to tell: its clients train again elsewhere.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_LOST_SUM)


def _answer(connection: Connection, runner: "TaskRunner", job: Job) -> None:
    """Runs one task. Any error becomes its reply, and the worker continues with the next task."""
    task, key = job.task, key_of(job.task)

    def progress(activity: str, step: int, steps: int) -> None:
        connection.report(activity, key, step, steps)
        # A round that closes early must not wait for this task to get the sum of those before it.
        while (aside := connection.take_aside()) is not None:
            _handle(connection, runner, aside)
            connection.report(activity, key, step, steps)

    try:
        connection.report(task.task_id, key)  # it may have been cancelled while queued
        with task_span(task):
            reply, payload = runner.run(task, job.payload, progress, connection.send)
        connection.send(reply, payload)
    except Cancelled:
        connection.send(cancelled_failure(task))
    except UnpreparedError as error:
        connection.send(Failure(task.task_id, task.attempt, ErrorReport("unprepared", as_text(str(error)), "", [])))
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, InputError):
            problems = [Problem(option, as_text(message)) for option, message in error.problems]
            report = ErrorReport("input", as_text(str(error)), as_text(traceback.format_exc()), problems)
        else:
            named = f"{type(error).__name__}: {error}"
            report = ErrorReport("failed", as_text(named), as_text(traceback.format_exc()), [])
        connection.send(Failure(task.task_id, task.attempt, report))


def as_text(text: str) -> str:
    """Valid Unicode of limited length, as the wire requires."""
    return text.encode("utf-8", "replace").decode()[:500_000]
