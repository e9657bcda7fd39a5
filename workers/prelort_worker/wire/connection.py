"""
The worker's end of the wire. One thread owns the DEALER socket (ZeroMQ sockets are not thread-safe) and sends a
heartbeat every second, whatever the main thread is doing. Only this file, link.py and keys.py know ZeroMQ.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import zmq

from .frames import Payload, pack, unpack
from .generation_messages import Text
from .link import Access, Link
from .mailbox import Inbox, Job, Outbox, TaskKey, key_of
from .messages import Beat, Credit, Grant, Hello, Report, Stop, Unavailable

BEAT_SECONDS = 1.0


class Cancelled(Exception):
    """The controller cancelled the task."""


class Connection:
    """Calls `on_failure` in the I/O thread when the connection breaks, and nothing after that."""

    def __init__(
        self,
        endpoint: str,
        worker_id: str,
        controller_pid: int | None,
        on_failure: Callable[[BaseException], None],
        access: Access | None = None,
    ) -> None:
        self._access = access
        self._endpoint = endpoint
        self._worker_id = worker_id
        self._on_failure = on_failure
        self._inbox = Inbox(controller_pid)
        self._outbox = Outbox()
        self._beat = Beat("starting", None, 0, 0)
        self._is_over = False
        self._sent: queue.SimpleQueue[tuple[Report, Payload] | None] = queue.SimpleQueue()
        self._context = zmq.Context()
        self._wake = self._context.socket(zmq.PAIR)
        self._wake.bind("inproc://wake")
        self._thread = threading.Thread(target=self._run, name="prelort-io", daemon=True)
        self._thread.start()

    def take(self) -> Job | Grant | Stop:
        """Waits for the next task, or for what is to become of an update."""
        while True:
            job = self._inbox.jobs.get()
            if job is not None:
                return job
            if (aside := self.take_aside()) is not None:
                return aside

    def take_aside(self) -> Job | Grant | None:
        """What may be handled between the steps of a task: a grant, or a request for a sum. None if nothing waits."""
        with suppress(queue.Empty):
            return self._inbox.asides.get_nowait()
        return None

    def report(self, activity: str, key: TaskKey | None = None, step: int = 0, steps: int = 0) -> None:
        """Sets what heartbeats report from now on. Raises Cancelled if the task has been cancelled."""
        self._beat = Beat(activity, key and key[0], step, steps)
        if key in self._inbox.cancelled:
            raise Cancelled

    def send(self, message: Report, payload: Payload | None = None) -> None:
        self._sent.put((message, payload or {}))
        while self._thread.is_alive():  # without it, nobody would ever receive this
            if self._wake.poll(100, zmq.POLLOUT):
                self._wake.send(b"")
                return

    def end(self) -> None:
        """From another thread, soon: what `take` gives next is Stop, a task under way is cancelled, nothing is sent."""
        self._is_over = True

    def close(self) -> None:
        """Ends the I/O thread; drops what has not been sent yet."""
        self._sent.put(None)
        with suppress(zmq.Again):  # the thread has ended already, when the connection broke
            self._wake.send(b"", zmq.NOBLOCK)
        self._thread.join()
        self._wake.close(linger=0)
        self._context.term()

    def _run(self) -> None:
        with self._context.socket(zmq.DEALER) as dealer, self._context.socket(zmq.PAIR) as woken:
            try:
                for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
                    dealer.setsockopt(option, value)
                woken.connect("inproc://wake")
                self._connect(dealer, woken)
            except BaseException as error:
                self._on_failure(error)
        for _ in self._inbox.accept(Stop()):
            pass

    def _connect(self, dealer: zmq.Socket, woken: zmq.Socket) -> None:
        """Over ipc the worker's name is its routing id. Over tcp the controller chooses that, and the worker joins."""
        if self._access is None:
            dealer.setsockopt(zmq.ROUTING_ID, self._worker_id.encode())
            dealer.connect(self._endpoint)
            self._serve(dealer, woken, None)
            return
        with closing(Link(dealer, self._endpoint, self._access)) as link:
            dealer.connect(self._endpoint)
            link.join(self._worker_id)
            self._serve(dealer, woken, link)
            link.release()

    def _serve(self, dealer: zmq.Socket, woken: zmq.Socket, link: Link | None) -> None:
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(woken, zmq.POLLIN)
        if link:
            poller.register(link.monitor, zmq.POLLIN)
        next_beat = time.monotonic()
        while not self._is_over:
            now = time.monotonic()
            if now >= next_beat:
                # First: another thread may hang, and keep this one from running, as soon as the beat is sent.
                if link:
                    link.renew()
                dealer.send_multipart(pack(self._beat))
                next_beat = now + BEAT_SECONDS
            ready = dict(poller.poll(max(0, round(1000 * (next_beat - now)))))
            if woken in ready:
                woken.recv()
                sent = self._sent.get()
                if sent is None:
                    return
                # A piece of an answer leaves its task open.
                may_lend = not isinstance(sent[0], Hello | Unavailable | Text) and self._inbox.close(key_of(sent[0]))
                self._outbox.put(*sent, may_lend)
            if link and link.monitor in ready:
                link.check()
            if dealer in ready:
                self._receive(dealer)
            for part in self._outbox.sendable():
                dealer.send_multipart(pack(part), copy=False)

    def _receive(self, dealer: zmq.Socket) -> None:
        message = unpack(*(frame.buffer for frame in dealer.recv_multipart(copy=False)))
        if isinstance(message, Credit):
            self._outbox.window.give_back(message.bytes)
        else:
            for answer in self._inbox.accept(message):
                dealer.send_multipart(pack(answer))
