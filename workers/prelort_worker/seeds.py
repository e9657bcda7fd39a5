"""Every random stream of a task is derived from the task's seed and what the stream is for."""

from hashlib import sha256


def derive(seed: str, purpose: str) -> int:
    """63 bits: what torch and numpy generators both take."""
    return int.from_bytes(sha256(f"{seed}/{purpose}".encode()).digest()[:8], "little") >> 1
