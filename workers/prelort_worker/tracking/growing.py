"""JSON-lines files that another process writes to while they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..runs import JsonObject, check_round, open_file, parse_object


class GrowingFile:
    """Gives every complete line once; all again from the start when the file was replaced or shortened."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._inode = -1
        self._end = 0

    def rewind(self) -> None:
        self._end = 0

    def read(self) -> Iterator[JsonObject]:
        """The lines since the last call, without damaged ones: a resumed run writes those anew."""
        try:
            lines = open_file(self.file)
        except FileNotFoundError:
            return
        with lines:
            status = os.fstat(lines.fileno())
            if status.st_ino != self._inode or status.st_size < self._end:
                self._inode, self._end = status.st_ino, 0
            lines.seek(self._end)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._end += len(line)
                try:
                    yield parse_object(line, str(self.file), "")
                except InputError:
                    continue


class GrowingRounds:
    """The rounds of a run under way, from metrics.jsonl, and when they ended."""

    def __init__(self, directory: Path) -> None:
        self._metrics = GrowingFile(directory / "metrics.jsonl")
        self._events = GrowingFile(directory / "events.jsonl")
        self._waiting: dict[int, JsonObject] = {}
        self._ended: dict[int, float] = {}

    def rewind(self) -> None:
        self._metrics.rewind()

    def after(self, last: int, past_gaps: bool) -> Iterator[tuple[int, JsonObject]]:
        """
        In order. A round whose line is missing or damaged holds back those after it, since a resume may write it anew,
        unless `past_gaps`.
        """
        for line in self._metrics.read():
            try:
                check_round(line, "")
            except InputError:
                continue
            self._waiting.setdefault(line["round"], line)
        for number in sorted(self._waiting):
            if number > last:
                if number > last + 1 and not past_gaps:
                    return
                yield number, self._waiting[number]
                last = number
            del self._waiting[number]

    def ended_at(self, number: int) -> float | None:
        """Seconds since 1970; None where no event says so."""
        for event in self._events.read():
            if event.get("type") == "round-end" and type(event.get("round")) is int:
                at = event.get("at")
                if isinstance(at, int | float):
                    self._ended.setdefault(event["round"], at / 1000)
        return self._ended.get(number)
