"""A worker's connection over tcp: joins the controller, and notices when it is lost."""

import secrets
import signal
import socket
import time
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from .frames import WireError, pack, unpack
from .keys import Keys, prove
from .messages import Challenge, Join, Proof

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
# Of ZeroMQ's own heartbeats; each is answered by the other end's I/O thread, whatever that process is doing.
_HEARTBEAT_MS = 1000
_GRACE_SECONDS = 2
# The protocol counts it in tenths of a second, in 16 bits.
_MOST_TTL_MS = 6_553_000


class LostController(ConnectionError):
    """The controller cannot be reached, or not any more."""


@dataclass(frozen=True)
class Access:
    """What a worker needs to reach its controller over tcp."""

    keys: Keys
    # Seconds without the controller after which the worker ends.
    lease: float


class Link:
    """Wraps a DEALER that is about to connect."""

    def __init__(self, dealer: zmq.Socket, endpoint: str, access: Access) -> None:
        self._dealer, self._endpoint, self._access = dealer, endpoint, access
        self._routing_id = secrets.token_hex(16)  # so that nobody can foresee it
        self._is_connected = False
        keys, lease_ms = access.keys, round(1000 * access.lease)
        dealer.setsockopt(zmq.ROUTING_ID, self._routing_id.encode())
        dealer.ipv6 = "[" in endpoint  # a name is looked up as IPv4, since with this it would be tried as IPv6 alone
        dealer.curve_serverkey = keys.server_key.encode()
        dealer.curve_publickey = keys.public_key.encode()
        dealer.curve_secretkey = keys.secret_key.encode()
        dealer.heartbeat_ivl = min(_HEARTBEAT_MS, max(1, lease_ms // 3))
        dealer.heartbeat_timeout = dealer.handshake_ivl = lease_ms
        dealer.heartbeat_ttl = min(lease_ms, _MOST_TTL_MS)
        self.monitor = dealer.get_monitor_socket(_EVENTS)

    def renew(self) -> None:
        """
        Lets this process live for another lease. Past it, SIGALRM ends the process, even if other threads hang and keep
        this one from running: the controller has given it up by then.
        """
        signal.setitimer(signal.ITIMER_REAL, self._access.lease + _GRACE_SECONDS)

    def release(self) -> None:
        """The process ends in order: no lease ends it. Not after an error, since another thread may hang even then."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def close(self) -> None:
        """Ends the watch; the context could not be ended otherwise."""
        self._dealer.disable_monitor()
        self.monitor.close(linger=0)

    def join(self, worker_id: str) -> None:
        """Proves to the controller which worker this is. Raises LostController if that takes longer than the lease."""
        deadline = time.monotonic() + self._access.lease
        self._dealer.send_multipart(pack(Join(worker_id)))
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self.monitor, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            # What has arrived is looked at even if the deadline passed while another thread held this one up.
            ready = dict(poller.poll(max(0, round(1000 * left))))
            if self.monitor in ready:
                self.check()
            if self._dealer in ready:
                return self._answer(worker_id)
            if left <= 0 and not ready:
                break
        what = "connected to it, but was not let in" if self._is_connected else "no connection"
        raise LostController(
            f"{socket.gethostname()} could not reach the controller at {self._endpoint} within {self._access.lease:g} "
            f"s: {what}. Check that workers.advertise is an address that this host can reach, and that no firewall "
            "closes the port (workers.ports)"
        )

    def _answer(self, worker_id: str) -> None:
        challenge = unpack(*self._dealer.recv_multipart())
        if not isinstance(challenge, Challenge):
            raise WireError(f"message: expected a challenge, got {type(challenge).__name__.lower()}")
        proof = prove(self._access.keys, worker_id, self._routing_id, challenge)
        self._dealer.send_multipart(pack(Proof(proof)))

    def check(self) -> None:
        """
        Reads one event; raises LostController if the connection was lost. The controller admits a key once, so there is
        no second try. A connection that ends before it is made is tried again by ZeroMQ.
        """
        event = recv_monitor_message(self.monitor)["event"]
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            raise LostController(f"the controller at {self._endpoint} refused this worker's key")
        if event == zmq.EVENT_DISCONNECTED and self._is_connected:
            raise LostController(f"the connection to the controller at {self._endpoint} was lost")
        self._is_connected |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
