"""The driver's connection to its controller, which it joins as a worker does. One thread owns the socket."""

import queue
import threading
from collections.abc import Callable
from contextlib import closing

import zmq

from ..wire.frames import WireError, pack, unpack
from ..wire.launcher_messages import Exited, Kill, Launch, Placed, Waiting
from ..wire.link import Access, Link
from ..wire.messages import Stop

Command = Launch | Kill | Stop
Report = Placed | Exited | Waiting

_RENEWAL_MS = 1000
# How long the last messages may take to be sent.
_LINGER_MS = 1000


class Channel:
    """Calls `on_command` and `on_failure` in its thread; after a failure nothing more."""

    def __init__(
        self,
        endpoint: str,
        name: str,
        access: Access,
        on_command: Callable[[Command], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._endpoint, self._name, self._access = endpoint, name, access
        self._on_command, self._on_failure = on_command, on_failure
        self._sent: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._context = zmq.Context()
        self._wake = self._context.socket(zmq.PAIR)
        self._wake.bind("inproc://wake")
        self._thread = threading.Thread(target=self._run, name="prelort-io", daemon=True)
        self._thread.start()

    def send(self, report: Report) -> None:
        """For one thread. What is sent before the controller has let this program in follows then."""
        self._sent.put(report)
        self._wake.send(b"")

    def close(self) -> None:
        """Sends what is left, and ends the thread."""
        self._sent.put(None)
        self._wake.send(b"")
        self._thread.join()
        self._wake.close(linger=0)
        self._context.term()

    def _run(self) -> None:
        with self._context.socket(zmq.DEALER) as dealer, self._context.socket(zmq.PAIR) as woken:
            try:
                for option, value in ((zmq.LINGER, _LINGER_MS), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
                    dealer.setsockopt(option, value)
                woken.connect("inproc://wake")
                with closing(Link(dealer, self._endpoint, self._access)) as link:
                    dealer.connect(self._endpoint)
                    link.join(self._name)
                    self._serve(dealer, woken, link)
                    link.release()
            except BaseException as error:
                self._on_failure(error)

    def _serve(self, dealer: zmq.Socket, woken: zmq.Socket, link: Link) -> None:
        poller = zmq.Poller()
        for socket in (dealer, woken, link.monitor):
            poller.register(socket, zmq.POLLIN)
        while True:
            # ZeroMQ's heartbeats notice a lost controller; a process that hangs is ended by the lease.
            link.renew()
            ready = dict(poller.poll(_RENEWAL_MS))
            if woken in ready:
                woken.recv()
                report = self._sent.get()
                if report is None:
                    return
                dealer.send_multipart(pack(report))
            if link.monitor in ready:
                link.check()
            if dealer in ready:
                command = unpack(*dealer.recv_multipart())
                if not isinstance(command, Launch | Kill | Stop):
                    raise WireError(f"message: expected launch, kill or stop, got {type(command).__name__.lower()}")
                self._on_command(command)
