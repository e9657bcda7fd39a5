"""What a tracker has to do. Its file, such as to_mlflow.py, is the only one that knows its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Param = str | int | float | bool

# `killed` is also a run that was interrupted; `running` leaves the run at the tracker as it is.
State = Literal["finished", "failed", "killed", "running"]


@dataclass(frozen=True)
class TrackedRun:
    # The run's own id, by which it is found at the tracker, whatever its name.
    key: str
    name: str
    directory: Path
    # Config, method, versions: what the run was made with.
    params: Mapping[str, Param]
    tags: Mapping[str, str]
    # The tracker's id of the run, if it is known.
    remote: str | None


@dataclass(frozen=True)
class Sample:
    """A held-out example, and what the adapter answers at each rank. No text of it is meant as markup."""

    prompt: str
    reference: str
    answers: Mapping[int, str]


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    state: State
    # `best/round`, and the metric's value in it, such as `best/accuracy`; empty without evaluate.best.
    best: Mapping[str, float] = field(default_factory=dict)
    # Besides those that the run began with.
    tags: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The tracker refuses the credentials or an option: waiting does not help. Any other error may pass."""


class Tracker(Protocol):
    """
    Any call may raise, and any process that calls may be killed at any point; then `open` is called again, on this or
    on another object, and delivery continues after `last_round`.
    """

    def check(self) -> None:
        """Raises RefusedError, or another error if the tracker is not there."""
        ...

    def open(self, run: TrackedRun) -> str:
        """Finds the run, or makes it, and completes its params. Returns the tracker's id of it."""
        ...

    def last_round(self) -> int:
        """The last round whose metrics the tracker holds, all of them; −1 if none."""
        ...

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        """
        Adds the metrics and samples of the next round, with seconds since 1970, and returns once the tracker holds
        them. What it holds already of that round is not added again.
        """
        ...

    def close(self, ending: Ending) -> None:
        """Adds tags, sets the run's state and its best round, and returns once the tracker holds them."""
        ...
