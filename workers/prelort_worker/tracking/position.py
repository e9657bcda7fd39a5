"""`track/NAME.json` in a run directory: by what id a tracker knows the run, and what was being sent to it last."""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs import open_file, parse_object
from .own_files import own_folder, write_file

_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Position:
    # The run's own id: drawn once, and on disk before a tracker is first told of the run.
    key: str
    # What the tracker was opened with; the tracker's id of the run belongs to these.
    options: Mapping[str, Any]
    remote: str | None = None
    # The round that was being sent, and its seconds since 1970: sent again, it has the same time.
    round: int = -1
    at: float = 0.0


class PositionFile:
    def __init__(self, directory: Path, name: str, options: Mapping[str, Any]) -> None:
        self.file = directory / "track" / f"{name}.json"
        self.position = self._read(options)

    def _read(self, options: Mapping[str, Any]) -> Position:
        own_folder(self.file.parent)
        try:
            with open_file(self.file) as opened:
                text = opened.read()
        except FileNotFoundError:
            self.position = Position(key=uuid.uuid4().hex, options=dict(options))
            self._write()
            return self.position
        remedy = "restore it from a copy; without it the tracker would get the run a second time"
        found = parse_object(text, str(self.file), remedy)
        try:
            position = Position(**found)
        except TypeError as error:
            raise InputError(f"{self.file} is damaged: {error}; {remedy}") from error
        # It becomes part of a search at the tracker.
        if not isinstance(position.key, str) or not _KEY.fullmatch(position.key):
            raise InputError(f"{self.file} is damaged: key is not 32 hexadecimal digits; {remedy}")
        if not isinstance(position.remote, str | None):
            raise InputError(f"{self.file} is damaged: remote is neither a text nor null; {remedy}")
        # Elsewhere the run has another id, and is found by its key.
        return position if position.options == options else Position(key=position.key, options=dict(options))

    def remember(self, remote: str) -> None:
        if remote != self.position.remote:
            self.position = replace(self.position, remote=remote)
            self._write()

    def sending(self, number: int, at: float) -> float:
        """The time to send a round with: that of the first attempt."""
        if number != self.position.round:
            self.position = replace(self.position, round=number, at=at)
            self._write()
        return self.position.at

    def _write(self) -> None:
        write_file(self.file, json.dumps(asdict(self.position), indent=2) + "\n")


class BusyError(Exception):
    """Another process delivers the same run to the same tracker."""


@contextmanager
def only_deliverer(directory: Path, name: str) -> Iterator[None]:
    """The kernel frees the lock when this process ends, however it ends."""
    folder = directory / "track"
    own_folder(folder)
    descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another process is delivering this run to {name}") from error
        yield
    finally:
        os.close(descriptor)
