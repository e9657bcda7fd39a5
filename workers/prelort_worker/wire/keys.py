"""
Authenticates a worker over tcp. It makes its own key pair; only public keys travel, on standard input and output.
"""

import hmac
import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

from .messages import Challenge

MAX_LINE_BYTES = 4096
# What the worker's one line on standard output starts with; the launcher reads it.
KEY_PREFIX = "prelort-key "
_INFO = b"prelort admission"


@dataclass(frozen=True)
class Keys:
    """Keys of ZeroMQ's CURVE, each 40 characters of Z85."""

    server_key: str
    public_key: str
    secret_key: str = field(repr=False)


def exchange_keys() -> Keys:
    """
    Reads the controller's public key, the first line of standard input, and writes this worker's to standard output.
    Afterwards everything printed goes to standard error, and the end of standard input signals that the controller has
    exited.
    """
    keys = make_keys(_read_server_key())
    announce(keys)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return keys


def announce(keys: Keys) -> None:
    """Writes the public key to standard output, on a line of its own even after one that has not ended."""
    os.write(sys.stdout.fileno(), f"\n{KEY_PREFIX}{keys.public_key}\n".encode())


def make_keys(server_key: str) -> Keys:
    """A new key pair. Exits where CURVE, or the package for proofs, is missing."""
    if not zmq.has("curve"):
        sys.exit(
            f"prelort-worker: pyzmq {zmq.__version__} was built without CURVE, which tcp needs: install a wheel of it "
            "(pip install --force-reinstall --only-binary pyzmq pyzmq), or set workers.transport: ipc"
        )
    if importlib.util.find_spec("cryptography") is None:
        sys.exit("prelort-worker: tcp needs the package cryptography: pip install cryptography")
    public_key, secret_key = (key.decode() for key in zmq.curve_keypair())
    return Keys(server_key, public_key, secret_key)


def prove(keys: Keys, worker_id: str, routing_id: str, challenge: Challenge) -> bytes:
    """
    Proves to the controller that this worker has its secret key: HMAC-SHA256 of the challenge under HKDF-SHA256 of the
    X25519 secret that only the two can compute.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    private = X25519PrivateKey.from_private_bytes(z85.decode(keys.secret_key))
    secret = private.exchange(X25519PublicKey.from_public_bytes(z85.decode(keys.server_key)))
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(secret)
    message = f"{challenge.nonce.hex()} {routing_id} {worker_id}"
    return hmac.digest(key, message.encode(), "sha256")


def _read_server_key() -> str:
    line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
    if not line:
        sys.exit("prelort-worker: its controller is gone, or closed its standard input without sending its key")
    try:
        server_key = json.loads(line)["server_key"]
        if isinstance(server_key, str) and len(server_key) == 40:
            z85.decode(server_key)
            return server_key
    except (KeyError, TypeError, ValueError):
        pass
    sys.exit(
        "prelort-worker: --curve: expected one line of JSON on standard input, {server_key}, with 40 characters of "
        "Z85; got something else"
    )
