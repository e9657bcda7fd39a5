"""Work of several threads that is done together."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long to wait for more after the last that came. A controller of many runs answers them one by one.
_PATIENCE_SECONDS = 0.03


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    kind: Hashable
    result: "Result | BaseException | None" = None


# Takes an index and the result, or the exception, that belongs to it.
Settle: TypeAlias = Callable[[int, Any], None]


class Gathering(Generic[Item, Result]):
    """
    Each thread brings one item and waits for its result. The work of all that are of the same kind is done once as many
    have come as may come, or no more come; `work` may settle a result, by its index, before it returns them all.
    """

    def __init__(
        self, work: Callable[[list[Item], Settle], list[Result | BaseException]], most: Callable[[], int]
    ) -> None:
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
            if not self._is_led:
                self._is_led = True
                threading.Thread(target=self._lead, name="prelort-together", daemon=True).start()
            while mine.result is None:
                self._changed.wait()
        if isinstance(mine.result, BaseException):
            raise mine.result
        return mine.result

    def _lead(self) -> None:
        """A thread of its own, so that whoever has its result is free, whatever the others still wait for."""
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                first = self._waiting[0]
            self._work_for(first)

    def _work_for(self, first: _Waiting[Item, Result]) -> None:
        chosen: list[_Waiting[Item, Result]] = [first]

        def settle(index: int, result: Result | BaseException) -> None:
            with self._changed:
                if chosen[index].result is None:
                    chosen[index].result = result
                    self._changed.notify_all()

        try:
            with self._alone:
                chosen = self._gather(first)
                results = self._work([each.item for each in chosen], settle)
        except BaseException as error:
            results = [error] * len(chosen)
        for index, result in enumerate(results):
            settle(index, result)
        with self._changed:
            self._waiting = [each for each in self._waiting if each.result is None]

    def _gather(self, mine: _Waiting[Item, Result]) -> list[_Waiting[Item, Result]]:
        with self._changed:
            known, deadline = 0, 0.0
            while sum(each.result is None for each in self._waiting) < self._most():
                now = time.monotonic()
                if len(self._waiting) > known:
                    known, deadline = len(self._waiting), now + _PATIENCE_SECONDS
                elif now >= deadline:
                    break
                self._changed.wait(deadline - now)
            return [each for each in self._waiting if each.kind == mine.kind]
