"""Incoming and outgoing messages, without the socket: assembles tasks from parts, sends replies within credit."""

import queue
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .fields import PartName
from .frames import (
    Assembly,
    CreditWindow,
    Payload,
    WireError,
    borrow_payload,
    chunk_payload,
    describe_clients,
    describe_examples,
    describe_lent,
    describe_payload,
)
from .generation_messages import Generate
from .messages import (
    Cancel,
    Chunk,
    Collect,
    Collected,
    ControllerMessage,
    Credit,
    End,
    ErrorReport,
    Evaluate,
    Evaluated,
    Failure,
    Fit,
    Fitted,
    Grant,
    Keep,
    Kept,
    Load,
    Loaded,
    Prepare,
    Prepared,
    Report,
    Stop,
    TaskMessage,
    TaskReply,
    WorkerMessage,
)
from .shared_memory import Lender, Shelf

# A task's id and attempt, which together are unique.
TaskKey = tuple[str, int]


@dataclass(frozen=True)
class Job:
    task: TaskMessage
    payload: Payload


def key_of(message: TaskMessage | TaskReply | Keep | Chunk | End | Cancel) -> TaskKey:
    return message.task_id, message.attempt


class Inbox:
    """
    Call `accept` and `close` from one thread; another may wait on `jobs` and read `cancelled`. A controller has a pid
    here only if it is on this machine; then it shares memory.
    """

    def __init__(self, controller_pid: int | None) -> None:
        self._controller_pid = controller_pid
        self._shelf = Shelf()
        # None: something waits in `asides`, which a fit that is under way may handle first.
        self.jobs: queue.SimpleQueue[Job | Stop | None] = queue.SimpleQueue()
        self.asides: queue.SimpleQueue[Job | Grant] = queue.SimpleQueue()
        self.cancelled: set[TaskKey] = set()
        # Tasks between arrival and reply, and whether their tensors are in memory that the controller shares. Parts of
        # any other task are late or duplicates, and dropped.
        self._open: dict[TaskKey, bool] = {}
        self._assembling: dict[TaskKey, tuple[TaskMessage | Keep, Assembly]] = {}
        # Whether the last tensors came in shared memory: a sum may then be lent too.
        self._shares = False

    def accept(self, message: ControllerMessage | WorkerMessage) -> Iterator[Credit | Kept | Failure]:
        """Takes one message; yields the immediate replies."""
        if isinstance(message, Chunk) and message.data:
            yield Credit(len(message.data))  # even if the chunk is dropped
        if isinstance(message, Stop):
            self.cancelled |= self._open.keys()
            self.jobs.put(message)
        elif isinstance(message, Grant):
            self._put_aside(message)
        elif isinstance(message, Keep):
            self._assembling[key_of(message)] = (message, Assembly(message.tensors))
        elif isinstance(message, Prepare | Load | Fit | Collect | Evaluate | Generate):
            yield from self._begin(message)
        elif isinstance(message, Chunk | End | Cancel):
            yield from self._continue(message)
        else:
            raise WireError(f"message: {type(message).__name__.lower()} is not for a worker")

    def close(self, key: TaskKey) -> bool:
        """Marks the task as answered. Returns whether the reply may use shared memory too."""
        self.cancelled.discard(key)
        return self._open.pop(key, False)

    def _begin(self, task: TaskMessage) -> Iterator[Failure]:
        key = key_of(task)
        if key in self._open:
            return
        if isinstance(task, Collect):
            self._open[key] = self._shares
            self._put_aside(Job(task, {}))
            return
        descriptors = task.tensors if isinstance(task, Fit | Evaluate | Generate) else []
        shared = [tensor.shared for tensor in descriptors if tensor.shared]
        self._open[key] = any(place.pid is None for place in shared)
        if descriptors:
            self._shares = self._open[key]
        if shared:
            if self._open[key] and self._controller_pid is None:
                raise WireError(f"{task.task_id}: tensors are in shared memory, which this worker does not have")
            try:
                self.jobs.put(Job(task, borrow_payload(descriptors, self._controller_pid or 0)))
            except OSError as error:
                kind = "failed" if self._open[key] else "unshared"
                self.close(key)
                yield Failure(task.task_id, task.attempt, ErrorReport(kind, f"shared memory: {error}", "", []))
        elif descriptors:
            self._assembling[key] = (task, Assembly(descriptors))
        else:
            self.jobs.put(Job(task, {}))

    def _put_aside(self, item: Job | Grant) -> None:
        self.asides.put(item)
        self.jobs.put(None)

    def _continue(self, message: Chunk | End | Cancel) -> Iterator[Kept | Failure]:
        key = key_of(message)
        if key not in self._assembling:
            if isinstance(message, Cancel) and key in self._open:
                self.cancelled.add(key)
            return
        task, assembly = self._assembling[key]
        if isinstance(message, Chunk):
            assembly.add(message)
            return
        del self._assembling[key]
        if isinstance(task, Keep):
            yield self._keep(task, assembly)
        elif isinstance(message, End):
            self.jobs.put(Job(task, assembly.finish()))
        else:
            self.close(key)
            yield cancelled_failure(task)

    def _keep(self, request: Keep, assembly: Assembly) -> Kept | Failure:
        data = assembly.finish()["kept"].data
        try:
            fd = self._shelf.put(request.file, request.size, request.offset, data)
        except OSError as error:
            report = ErrorReport("failed", f"{type(error).__name__}: {error}", "", [])
            return Failure(request.task_id, request.attempt, report)
        return Kept(request.task_id, request.attempt, fd)


class Outbox:
    """Sends messages in the order they were put, each followed by its tensors, as far as credit allows."""

    def __init__(self) -> None:
        self.window = CreditWindow()
        self._lender = Lender()
        self._waiting: deque[Iterator[Report | Chunk | End]] = deque()
        self._held: Chunk | None = None

    def put(self, message: Report, payload: Payload, may_lend: bool) -> None:
        self._waiting.append(self._lent(message, payload) if may_lend else _with_tensors(message, payload))

    def _lent(self, message: Report, payload: Payload) -> Iterator[Report | Chunk | End]:
        if not isinstance(message, Fitted | Collected | Loaded):
            yield from _with_tensors(message, payload)
            return
        try:
            data: dict[PartName, memoryview] = {name: tensor.data for name, tensor in payload.items()}
            locations = self._lender.lend(data)
        except OSError:
            yield from _with_tensors(message, payload)
        else:
            yield replace(message, tensors=describe_lent(payload, locations))

    def sendable(self) -> Iterator[Report | Chunk | End]:
        """What may be sent now; it counts as sent."""
        if self._held:
            if not self.window.take(len(self._held.data)):
                return
            yield self._held
            self._held = None
        while self._waiting:
            for part in self._waiting[0]:
                if isinstance(part, Chunk) and not self.window.take(len(part.data)):
                    self._held = part
                    return
                yield part
            self._waiting.popleft()


def cancelled_failure(task: TaskMessage) -> Failure:
    return Failure(task.task_id, task.attempt, ErrorReport("cancelled", f"{task.task_id} was cancelled", "", []))


def _with_tensors(message: Report, payload: Payload) -> Iterator[Report | Chunk | End]:
    if not payload or not isinstance(message, Prepared | Fitted | Collected | Loaded | Evaluated):
        yield message
        return
    if isinstance(message, Prepared):
        yield replace(message, tensors=describe_clients(payload))
    elif isinstance(message, Evaluated):
        yield replace(message, tensors=describe_examples(payload))
    else:
        yield replace(message, tensors=describe_payload(payload))
    yield from chunk_payload(message.task_id, message.attempt, payload)
    yield End(message.task_id, message.attempt)
