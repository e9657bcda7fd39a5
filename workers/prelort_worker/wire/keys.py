"""The keys that a worker proves itself with, over tcp. They come on standard input: others can read command lines."""

import json
import sys
from dataclasses import dataclass, field

MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Keys:
    """Of ZeroMQ's CURVE, each in 40 characters of Z85."""

    server_key: str
    public_key: str
    secret_key: str = field(repr=False)


def read_keys() -> Keys:
    """
    Reads the first line of standard input, and no more: its end still tells that the controller is gone. What came
    instead is not shown, since it may hold the secret key.
    """
    line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
    if not line:
        sys.exit("prelort-worker: its controller is gone, or closed its standard input without sending it keys")
    try:
        keys = Keys(**json.loads(line))
        if all(isinstance(key, str) and len(key) == 40 for key in vars(keys).values()):
            return keys
    except (TypeError, ValueError):
        pass
    sys.exit(
        "prelort-worker: --curve: expected one line of JSON on standard input, {server_key, public_key, secret_key}, "
        "each 40 characters of Z85; got something else"
    )
