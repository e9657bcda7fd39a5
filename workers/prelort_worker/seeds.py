"""Each random stream of a task is derived from the task's seed and the stream's purpose."""

from hashlib import sha256


def derive(seed: str, purpose: str) -> int:
    """63 bits, which both torch and numpy generators accept."""
    return int.from_bytes(sha256(f"{seed}/{purpose}".encode()).digest()[:8], "little") >> 1
