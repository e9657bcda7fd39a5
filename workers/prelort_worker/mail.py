"""What comes in and goes out over the wire, without the wire: tasks assembled from parts, replies within credit."""

import queue
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .messages import (
    Cancel,
    Chunk,
    ControllerMessage,
    Credit,
    End,
    ErrorReport,
    Evaluate,
    Failure,
    Fit,
    Hello,
    Load,
    Prepare,
    Stop,
    TaskMessage,
    TaskReply,
    WorkerMessage,
)
from .wire import Assembly, CreditWindow, Payload, WireError, chunk_payload

# A task by its id and attempt, which together are unique.
TaskKey = tuple[str, int]


@dataclass(frozen=True)
class Job:
    task: TaskMessage
    payload: Payload


def key_of(message: TaskMessage | TaskReply | Chunk | End | Cancel) -> TaskKey:
    return message.task_id, message.attempt


class Inbox:
    """`accept` and `close` belong to one thread; another may wait on `jobs` and look at `cancelled`."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Job | Stop] = queue.SimpleQueue()
        self.cancelled: set[TaskKey] = set()
        # Tasks between their arrival and their reply: parts of any other are late or doubled, and dropped.
        self._open: set[TaskKey] = set()
        self._assembling: dict[TaskKey, tuple[TaskMessage, Assembly]] = {}

    def accept(self, message: ControllerMessage | WorkerMessage) -> Iterator[Credit | Failure]:
        """Takes one message; yields what is to be answered at once."""
        if isinstance(message, Chunk) and message.data:
            yield Credit(len(message.data))  # also for a chunk that is dropped
        if isinstance(message, Stop):
            self.cancelled |= self._open
            self.jobs.put(message)
        elif isinstance(message, Prepare | Load | Fit | Evaluate):
            self._begin(message)
        elif isinstance(message, Chunk | End | Cancel):
            yield from self._continue(message)
        else:
            raise WireError(f"message: {type(message).__name__.lower()} is not for a worker")

    def close(self, key: TaskKey) -> None:
        """The task has been answered."""
        self._open.discard(key)
        self.cancelled.discard(key)

    def _begin(self, task: TaskMessage) -> None:
        key = key_of(task)
        if key in self._open:
            return
        self._open.add(key)
        descriptors = task.tensors if isinstance(task, Fit | Evaluate) else []
        if descriptors:
            self._assembling[key] = (task, Assembly(descriptors))
        else:
            self.jobs.put(Job(task, {}))

    def _continue(self, message: Chunk | End | Cancel) -> Iterator[Failure]:
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
        if isinstance(message, End):
            self.jobs.put(Job(task, assembly.finish()))
        else:
            self.close(key)
            yield cancelled_failure(task)


class Outbox:
    """Messages in the order they were put, each followed by its tensors, as fast as credit lets them go."""

    def __init__(self) -> None:
        self.window = CreditWindow()
        self._waiting: deque[Iterator[Hello | TaskReply | Chunk | End]] = deque()
        self._held: Chunk | None = None

    def put(self, message: Hello | TaskReply, payload: Payload) -> None:
        self._waiting.append(_with_tensors(message, payload))

    def sendable(self) -> Iterator[Hello | TaskReply | Chunk | End]:
        """What may go now; it counts as gone."""
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
    return Failure(task.task_id, task.attempt, ErrorReport("cancelled", f"{task.task_id} was cancelled", ""))


def _with_tensors(message: Hello | TaskReply, payload: Payload) -> Iterator[Hello | TaskReply | Chunk | End]:
    yield message
    if payload and not isinstance(message, Hello):
        yield from chunk_payload(message.task_id, message.attempt, payload)
        yield End(message.task_id, message.attempt)
