"""How a worker over tcp comes by its keys, and what it does with them."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from controller import DEADLINE_SECONDS, worker_command, worker_environment
from prelort_worker.wire import connection
from prelort_worker.wire.frames import unpack
from prelort_worker.wire.keys import Keys, read_keys
from prelort_worker.wire.messages import Beat

SERVER = tuple(key.decode() for key in zmq.curve_keypair())
WORKER = tuple(key.decode() for key in zmq.curve_keypair())
KEYS = {"server_key": SERVER[0], "public_key": WORKER[0], "secret_key": WORKER[1]}


def line_of(keys: object) -> bytes:
    return json.dumps(keys).encode() + b"\n"


def give(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> io.BytesIO:
    stdin = io.BytesIO(sent)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
    return stdin


def test_keys_are_the_first_line_and_the_rest_is_not_read(monkeypatch: pytest.MonkeyPatch):
    stdin = give(monkeypatch, line_of(KEYS) + b"rest")
    keys = read_keys()
    assert vars(keys) == KEYS
    assert stdin.read() == b"rest"
    assert KEYS["secret_key"] not in repr(keys)


@pytest.mark.parametrize(
    "sent",
    [
        b"{}\n",
        b"[1, 2, 3]\n",
        b"garbage\n",
        line_of({**KEYS, "more": 1}),
        line_of({**KEYS, "server_key": 5}),
        line_of({**KEYS, "public_key": KEYS["public_key"][1:]}),
        line_of(KEYS)[:-20],
    ],
)
def test_an_invalid_line_of_keys_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, sent: bytes):
    give(monkeypatch, sent)
    with pytest.raises(SystemExit, match=r"--curve: .*server_key, public_key, secret_key") as refused:
        read_keys()
    assert KEYS["secret_key"][:10] not in str(refused.value)


def test_it_exits_when_its_controller_is_gone(monkeypatch: pytest.MonkeyPatch):
    give(monkeypatch, b"")
    with pytest.raises(SystemExit, match="controller"):
        read_keys()


def test_a_pyzmq_without_curve_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zmq, "has", lambda capability: capability != "curve")
    with pytest.raises(RuntimeError, match=r"\bCURVE\b.*pip install.*workers\.transport: ipc"):
        connection.Connection("tcp://127.0.0.1:1", "w0", os.getpid(), print, Keys(**KEYS))


def test_a_real_process_authenticates_with_its_keys_and_does_not_reveal_them():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.curve_server = True
        router.curve_secretkey = SERVER[1].encode()
        port = router.bind_to_random_port("tcp://127.0.0.1")
        command = [*worker_command(f"tcp://127.0.0.1:{port}", "w0", os.getpid()), "--curve"]
        process = subprocess.Popen(
            command, env=worker_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            assert process.stdin
            process.stdin.write(line_of(KEYS))
            process.stdin.flush()
            assert router.poll(1000 * DEADLINE_SECONDS)
            identity, frame = router.recv_multipart()
            assert (identity, type(unpack(frame))) == (b"w0", Beat)
            if sys.platform == "linux":
                process_folder = Path(f"/proc/{process.pid}")
                shown = (process_folder / "cmdline").read_bytes() + (process_folder / "environ").read_bytes()
                assert b"--curve" in shown and KEYS["secret_key"].encode() not in shown
        finally:
            process.kill()
            log, _ = process.communicate()
    assert KEYS["secret_key"].encode() not in log


def test_a_real_process_exits_when_standard_input_ends_without_keys():
    command = [*worker_command("tcp://127.0.0.1:1", "w0", os.getpid()), "--curve"]
    ended = subprocess.run(
        command, env=worker_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert (ended.returncode, "controller" in ended.stderr) == (1, True)
