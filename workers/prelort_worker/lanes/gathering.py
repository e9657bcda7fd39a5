"""Work of several threads that is done together."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long to wait for more after the last that came. A controller of many runs answers them one by one.
_PATIENCE_SECONDS = 0.03


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    kind: Hashable
    result: "Result | BaseException | None" = None


class Gathering(Generic[Item, Result]):
    """
    Each thread brings one item and waits for its result. One of them does the work of all that are of the same kind,
    once as many have come as may come, or no more come.
    """

    def __init__(self, work: Callable[[list[Item]], list[Result | BaseException]], most: Callable[[], int]) -> None:
        self._work, self._most = work, most
        self._changed = threading.Condition()
        self._waiting: list[_Waiting[Item, Result]] = []
        self._is_led = False
        # For what nothing else may be done beside.
        self._alone = threading.RLock()

    def __enter__(self) -> None:
        """Within the block, nothing is done together."""
        self._alone.acquire()

    def __exit__(self, *_: object) -> None:
        self._alone.release()

    def bring(self, item: Item, kind: Hashable) -> Result:
        mine = _Waiting[Item, Result](item, kind)
        with self._changed:
            self._waiting.append(mine)
            self._changed.notify_all()
            while self._is_led and mine.result is None:
                self._changed.wait()
            if mine.result is None:
                self._is_led = True
        if mine.result is None:
            self._lead(mine)
        if isinstance(mine.result, BaseException):
            raise mine.result
        assert mine.result is not None
        return mine.result

    def _lead(self, mine: _Waiting[Item, Result]) -> None:
        chosen: list[_Waiting[Item, Result]] = [mine]
        try:
            with self._alone:
                chosen = self._gather(mine)
                results = self._work([each.item for each in chosen])
        except BaseException as error:
            results = [error] * len(chosen)
        with self._changed:
            for each, result in zip(chosen, results, strict=True):
                each.result = result
            self._waiting = [each for each in self._waiting if each.result is None]
            self._is_led = False
            self._changed.notify_all()

    def _gather(self, mine: _Waiting[Item, Result]) -> list[_Waiting[Item, Result]]:
        with self._changed:
            known, deadline = 0, 0.0
            while len(self._waiting) < self._most():
                now = time.monotonic()
                if len(self._waiting) > known:
                    known, deadline = len(self._waiting), now + _PATIENCE_SECONDS
                elif now >= deadline:
                    break
                self._changed.wait(deadline - now)
            return [each for each in self._waiting if each.kind == mine.kind]
