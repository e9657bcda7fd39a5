"""A controller for tests: the ROUTER end of the wire, with one real worker process."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import zmq
from prelort_worker.wire.frames import Assembly, Payload, chunk_payload, pack, unpack
from prelort_worker.wire.messages import Beat, Chunk, ControllerMessage, Credit, End, TaskMessage, WorkerMessage

DEADLINE_SECONDS = 600
WORKERS = Path(__file__).parents[2] / "workers"
T = TypeVar("T")


class Controller:
    def __init__(self, router: zmq.Socket, process: subprocess.Popen[str], worker_id: str) -> None:
        self.process = process
        self.beats: list[Beat] = []
        self._router = router
        self._worker_id = worker_id.encode()

    def send(self, *messages: ControllerMessage) -> None:
        for message in messages:
            self.send_frames(pack(message))

    def send_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        self._router.send_multipart([self._worker_id, *frames])

    def receive_any(self) -> WorkerMessage | ControllerMessage:
        """The next message, including heartbeats."""
        if not self._router.poll(1000 * DEADLINE_SECONDS):
            raise TimeoutError(f"nothing from the worker in {DEADLINE_SECONDS} s; its last beat: {self.beats[-1:]}")
        identity, *frames = self._router.recv_multipart()
        assert identity == self._worker_id
        message = unpack(*frames)
        if isinstance(message, Beat):
            self.beats.append(message)
        return message

    def receive(self) -> WorkerMessage | ControllerMessage:
        """The next message that is neither a heartbeat nor credit."""
        while isinstance(message := self.receive_any(), Beat | Credit):
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}"
        return message

    def expect(self, kind: type[T]) -> T:
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def run(self, task: TaskMessage, reply: type[T], payload: Payload | None = None) -> tuple[T, Payload]:
        self.send(task)
        if payload:
            self.send(*chunk_payload(task.task_id, task.attempt, payload), End(task.task_id, task.attempt))
        message = self.expect(reply)
        assert vars(message).items() >= {"task_id": task.task_id, "attempt": task.attempt}.items()
        descriptors = getattr(message, "tensors", [])
        if not descriptors:
            return message, {}
        assembly = Assembly(descriptors)
        while not isinstance(part := self.receive(), End):
            assert isinstance(part, Chunk)
            assembly.add(part)
            self.send(Credit(len(part.data)))
        return message, assembly.finish()


@contextmanager
def real_worker(folder: Path, device: str = "cpu", **environment: str) -> Iterator[Controller]:
    worker_id = "w0"
    endpoint = f"ipc://{folder}/socket"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind(endpoint)
        process = subprocess.Popen(
            worker_command(endpoint, worker_id, os.getpid(), device),
            env=worker_environment() | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Controller(router, process, worker_id)
        finally:
            process.kill()
            process.communicate()


def worker_command(endpoint: str, worker_id: str, parent_pid: int | None, device: str = "cpu") -> list[str]:
    options = ["--endpoint", endpoint, "--worker-id", worker_id]
    if parent_pid is not None:
        options += ["--parent-pid", str(parent_pid)]
    return [sys.executable, "-m", "prelort_worker", *options, "--device", device, "--threads", "1"]


def worker_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(WORKERS)}
