"""Keys to authenticate with over tcp. They come on standard input, since other users can read command lines."""

import json
import sys
from dataclasses import dataclass, field

MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Keys:
    """ZeroMQ CURVE keys, each 40 characters of Z85."""

    server_key: str
    public_key: str
    secret_key: str = field(repr=False)


def read_keys() -> Keys:
    """
    Reads only the first line of standard input: its end later signals that the controller has exited. Errors do not
    show the input, since it may contain the secret key.
    """
    line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
    if not line:
        sys.exit("prelort-worker: the controller is gone, or closed standard input without sending keys")
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
