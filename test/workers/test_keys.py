"""How a worker over tcp gets its keys, joins its controller, and notices that it is lost."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from controller import DEADLINE_SECONDS, worker_command, worker_environment
from prelort_worker.wire import connection
from prelort_worker.wire.frames import pack, unpack
from prelort_worker.wire.keys import Keys, exchange_keys, prove
from prelort_worker.wire.link import Access, LostController
from prelort_worker.wire.messages import Beat, Challenge, Join, Proof, Stop

SERVER = tuple(key.decode() for key in zmq.curve_keypair())


def line_of(keys: object) -> bytes:
    return json.dumps(keys).encode() + b"\n"


def give(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sent)))


@pytest.mark.parametrize(
    "sent",
    [
        b"{}\n",
        b"[1, 2, 3]\n",
        b"garbage\n",
        line_of({"server_key": 5}),
        line_of({"server_key": SERVER[0][1:]}),
        line_of({"server_key": "é" * 40}),
        line_of({"server_key": SERVER[0]})[:-20],
    ],
)
def test_a_first_line_without_a_server_key_is_refused(monkeypatch: pytest.MonkeyPatch, sent: bytes):
    give(monkeypatch, sent)
    with pytest.raises(SystemExit, match=r"--curve.*server_key"):
        exchange_keys()


def test_without_its_controller_it_ends(monkeypatch: pytest.MonkeyPatch):
    give(monkeypatch, b"")
    with pytest.raises(SystemExit, match="its controller is gone"):
        exchange_keys()


def test_a_pyzmq_without_curve_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    give(monkeypatch, line_of({"server_key": SERVER[0]}))
    monkeypatch.setattr(zmq, "has", lambda capability: capability != "curve")
    with pytest.raises(SystemExit, match=r"without CURVE.*pip install.*workers\.transport: ipc"):
        exchange_keys()


def test_the_proof_of_known_keys_is_the_one_that_the_controller_expects():
    # As in test/unit/transport/keys.test.ts.
    keys = Keys(
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
        "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
        "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
    )
    challenge = Challenge(bytes([7] * 32))
    proof = prove(keys, "w3.1", "00112233445566778899aabbccddeeff", challenge)
    assert proof.hex() == "4705cc4bcac3074dd38ac0492a7c409081e69fc4cf9d550af604ee4b7bc6540d"
    assert keys.secret_key not in repr(keys)


class Controller:
    """The controller's end of a connection over tcp, played by a test."""

    def __init__(self, router: zmq.Socket) -> None:
        self.router = router
        self.endpoint = f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"

    def receive(self) -> tuple[bytes, object]:
        assert self.router.poll(1000 * DEADLINE_SECONDS)
        routing_id, frame = self.router.recv_multipart()
        return routing_id, unpack(frame)

    def admit(self, public_key: str) -> bytes:
        """Lets one worker join; gives its routing id."""
        routing_id, join = self.receive()
        assert join == Join("w0")
        challenge = Challenge(os.urandom(32))
        self.router.send_multipart([routing_id, *pack(challenge)])
        # Both ends compute the same proof.
        expected = prove(Keys(public_key, *SERVER), "w0", routing_id.decode(), challenge)
        assert self.receive() == (routing_id, Proof(expected))
        return routing_id


@contextmanager
def controller() -> Iterator[Controller]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_secretkey = SERVER[1].encode()
        yield Controller(router)


class Worker:
    """A worker's connection over tcp, in this process."""

    def __init__(self, endpoint: str, lease: float) -> None:
        public_key, secret_key = (key.decode() for key in zmq.curve_keypair())
        self.public_key = public_key
        self._errors: list[BaseException] = []
        self._failed = threading.Event()
        access = Access(Keys(SERVER[0], public_key, secret_key), lease)
        self.connection = connection.Connection(endpoint, "w0", None, self._fail, access)

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        self._failed.set()

    def error(self) -> str:
        """What it says once it has lost its controller."""
        assert self._failed.wait(DEADLINE_SECONDS)
        assert isinstance(self._errors[0], LostController)
        self.connection.close()
        return str(self._errors[0])


def test_a_worker_joins_with_its_own_key_and_then_sends_heartbeats():
    with controller() as there:
        worker = Worker(there.endpoint, 60)
        routing_id = there.admit(worker.public_key)
        sender, beat = there.receive()
        assert (sender, type(beat)) == (routing_id, Beat)
        there.router.send_multipart([routing_id, *pack(Stop())])
        assert isinstance(worker.connection.take(), Stop)
        worker.connection.close()


def test_a_lease_of_days_is_accepted():
    with controller() as there:
        worker = Worker(there.endpoint, 7 * 24 * 3600)
        there.admit(worker.public_key)
        there.receive()
        worker.connection.close()


def test_a_worker_notices_at_once_that_the_connection_was_closed():
    with controller() as there:
        worker = Worker(there.endpoint, 3600)
        there.admit(worker.public_key)
        there.receive()
    assert there.endpoint in worker.error()


def test_a_controller_that_cannot_be_reached_is_named_with_what_to_check():
    with controller() as there:
        endpoint = there.endpoint
    # Nobody listens there any more.
    error = Worker(endpoint, 0.5).error()
    for fact in (endpoint, "0.5 s", "no connection", "workers.advertise", "workers.ports"):
        assert fact in error


def test_a_controller_that_never_challenges_is_lost_with_the_lease():
    with controller() as there:
        assert "was not let in" in Worker(there.endpoint, 0.5).error()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=worker_environment(), stdin=pipe, stdout=pipe, stderr=pipe)


@contextmanager
def process(there: Controller) -> Iterator[subprocess.Popen[bytes]]:
    command = [*worker_command(there.endpoint, "w0", None), "--curve", "--lease", "600"]
    with start(command) as started:
        try:
            yield started
        finally:
            started.kill()


def join_process(there: Controller, started: subprocess.Popen[bytes]) -> bytes:
    """Exchanges keys with a worker that was just started, and lets it join; gives its routing id."""
    assert started.stdin and started.stdout
    started.stdin.write(line_of({"server_key": SERVER[0]}))
    started.stdin.flush()
    assert started.stdout.readline() == b"\n"
    prefix, public_key = started.stdout.readline().decode().split()
    assert (prefix, len(public_key)) == ("prelort-key", 40)
    return there.admit(public_key)


def test_a_real_process_joins_and_ends_with_its_standard_input():
    with controller() as there, process(there) as started:
        routing_id = join_process(there, started)
        sender, beat = there.receive()
        assert (sender, type(beat)) == (routing_id, Beat)
        if sys.platform == "linux":
            assert SERVER[0].encode() not in Path(f"/proc/{started.pid}/cmdline").read_bytes()
        assert started.stdin and started.stdout
        # Its standard output ends with its key: whatever is printed later goes to its log.
        assert started.stdout.read() == b""
        started.stdin.close()
        assert started.wait(DEADLINE_SECONDS) in (1, -signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process that cannot notice by itself")
def test_a_stopped_process_ends_with_its_standard_input():
    with controller() as there, process(there) as started:
        join_process(there, started)
        there.receive()
        started.send_signal(signal.SIGSTOP)
        assert started.stdin
        started.stdin.close()
        assert started.wait(DEADLINE_SECONDS) == -signal.SIGKILL


# Joins, and then hangs outside Python without letting any other thread run.
HANGS = """
import ctypes, os, sys
from prelort_worker.wire.connection import Connection
from prelort_worker.wire.keys import exchange_keys
from prelort_worker.wire.link import Access
connection = Connection(sys.argv[1], "w0", None, lambda error: os._exit(9), Access(exchange_keys(), 3))
sys.stdin.buffer.readline()
ctypes.PyDLL(None).sleep(100_000)
"""


def test_a_process_that_hangs_ends_with_its_lease_though_its_standard_input_stays_open():
    with controller() as there:
        command = [sys.executable, "-c", HANGS, there.endpoint]
        with start(command) as started:
            try:
                join_process(there, started)
                there.receive()
                assert started.stdin
                started.stdin.write(b"hang\n")
                started.stdin.flush()
                assert started.wait(DEADLINE_SECONDS) == -signal.SIGALRM
            finally:
                started.kill()


def test_a_real_process_whose_controller_is_gone_ends_and_says_so():
    with controller() as there, process(there) as started:
        join_process(there, started)
        there.receive()
        there.router.close(linger=0)
        assert started.wait(DEADLINE_SECONDS) == 5
        assert started.stderr
        log = started.stderr.read()
        assert b"was lost" in log and b"Traceback" not in log


def test_a_real_process_whose_standard_input_ends_without_a_key_ends_too():
    command = [*worker_command("tcp://127.0.0.1:1", "w0", os.getpid()), "--curve"]
    ended = subprocess.run(
        command, env=worker_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert (ended.returncode, "its controller is gone" in ended.stderr) == (1, True)
