"""Between the controller and its program on a cluster, which starts workers there."""

from dataclasses import dataclass

from .validation import Count, Positive


@dataclass(frozen=True)
class Launch:
    """To a launcher on a cluster: starts a worker, on none of the nodes in `avoid` as long as there are others."""

    worker_id: str
    device: str
    threads: Positive
    avoid: list[str]


@dataclass(frozen=True)
class Kill:
    """To a launcher on a cluster: ends a worker at once."""

    worker_id: str


@dataclass(frozen=True)
class Placed:
    """Of a launcher on a cluster: the worker's process runs, and has made its key pair."""

    worker_id: str
    host: str
    # The cluster's name for that machine.
    node: str
    public_key: str


@dataclass(frozen=True)
class Exited:
    """Of a launcher on a cluster: the worker's process is gone, or could not be started."""

    worker_id: str
    exit_code: Count | None
    signal: str | None
    problem: str | None
    # The end of its output.
    log: str


@dataclass(frozen=True)
class Waiting:
    """Of a launcher on a cluster: what its launches wait for, in words; empty if for nothing."""

    reason: str
