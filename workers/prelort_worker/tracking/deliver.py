"""Follows a run directory and delivers to a tracker what it lacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..runs import read_record
from .figures import last_adapter, metrics_of, params_of, samples_of
from .growing import GrowingRounds
from .position import BusyError, PositionFile, only_deliverer
from .secrets import in_words
from .tracker import Ending, TrackedRun, Tracker

# Seconds between looks at the run's files.
_LOOK = 0.25
# Seconds between attempts at a tracker that fails, doubled each time up to the second.
_PAUSES = (0.5, 30.0)


class Channel(Protocol):
    """To whoever started the delivery."""

    def ending(self) -> Ending | None:
        """How the run ended, once it has."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns early when the run ends."""
        ...

    def report(self, kind: str, **fields: Any) -> None: ...


def deliver(name: str, options: dict[str, Any], directory: Path, make: Callable[[], Tracker], channel: Channel) -> None:
    """
    Until the run has ended and everything of it is delivered. A tracker that fails is tried again, after pauses that
    grow; what it holds is asked of it each time, since an error does not say what of it was received.
    """
    rounds = GrowingRounds(directory)
    pause = _PAUSES[0]
    while True:
        try:
            with only_deliverer(directory, name):
                position = PositionFile(directory, name, options)
                _deliver_until_error(make(), position, directory, rounds, channel)
                return
        except Exception as error:
            # Whatever a client raises: nothing of it may end a delivery, which has a run's time to succeed.
            channel.report("behind", message=str(error) if isinstance(error, BusyError) else in_words(error))
        rounds.rewind()
        channel.wait(pause)
        pause = min(2 * pause, _PAUSES[1])


def _deliver_until_error(
    tracker: Tracker, position: PositionFile, directory: Path, rounds: GrowingRounds, channel: Channel
) -> None:
    last: int | None = None
    while True:
        # Asked before the files are read: by then, everything of a run that has ended is in them.
        ending = channel.ending()
        if last is None and (run := _describe(directory, position)):
            position.remember(tracker.open(run))
            last = tracker.last_round()
            channel.report("open", round=last)
        if last is not None:
            for number, line in rounds.after(last, past_gaps=ending is not None and ending.state == "finished"):
                at = position.sending(number, rounds.ended_at(number) or time.time())
                tracker.log(number, metrics_of(line), samples_of(line), at)
                last = number
                channel.report("delivered", round=last)
        if ending is not None:
            if last is not None:
                sha256 = last_adapter(directory)
                adapter = {} if sha256 is None else {"prelort.adapter_sha256": sha256}
                tracker.close(replace(ending, tags={**adapter, **ending.tags}))
            channel.report("closed")
            return
        channel.wait(_LOOK)


def _describe(directory: Path, position: PositionFile) -> TrackedRun | None:
    """None until the run's data and model are ready: before that, nothing of it is worth keeping."""
    record = read_record(directory)
    if "layout" not in record:
        return None
    key = position.position.key
    return TrackedRun(
        key=key,
        name=record["name"],
        directory=directory,
        params=params_of(record),
        tags={"prelort.version": record["prelort"], "prelort.run": str(directory), "prelort.id": key},
        remote=position.position.remote,
    )
