"""The workers of one driver: an actor for each, from its launch to its end. For one thread; nothing here blocks."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import (  # pyright: ignore[reportMissingImports]
    ActorUnavailableError,
    RayActorError,
)

from ..wire.launcher_messages import Exited, Launch, Placed, Waiting
from .actor import Ended, Running, Start, WorkerParent
from .capacity import Resources, nodes_to_avoid, waiting_reason
from .channel import Report
from .nodes import autoscaler, live_nodes

# How long an actor has to end its worker, and to send the end of its output, before it is killed itself.
_KILL_SECONDS = 1.0
_NODE_ID_LABEL = "ray.io/node-id"


@dataclass(frozen=True)
class Spec:
    """What all workers of a driver have in common."""

    needed: Resources
    # Ray's options for an actor: num_cpus, num_gpus and resources.
    actor_options: dict[str, Any]
    endpoint: str
    server_key: str
    lease: float
    python: str


@dataclass
class _Place:
    """A worker's."""

    launch: Launch
    avoided: list[str]
    actor: Any
    # Once it is placed.
    running: Running | None = None
    # Its actor could not be reached, and may live: it is to be asked again how the worker ends.
    is_unheard: bool = False
    # When its actor is to be killed, by time.monotonic(); None: not at all, or it has been.
    kill_at: float | None = None
    is_killed: bool = False


@dataclass
class Launches:
    spec: Spec
    send: Callable[[Report], None]
    # Has a call done in the thread of this object.
    post: Callable[[Callable[[], None]], None]
    # What the controller was told last that launches wait for.
    reason: str
    _places: dict[str, _Place] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._places)

    def launch(self, launch: Launch) -> None:
        try:
            place = self._places[launch.worker_id] = self._request(launch)
        except Exception as error:  # of many types: it does not know these resources, or cannot be asked for a moment
            self.send(Exited(launch.worker_id, None, None, _brief(error), ""))
            return
        self._follow(place)

    def kill(self, worker_id: str) -> None:
        place = self._places.get(worker_id)
        if not place or place.is_killed:
            return
        place.is_killed = True
        if place.running:
            place.actor.end.remote()
            place.kill_at = time.monotonic() + _KILL_SECONDS
        else:
            ray.kill(place.actor)

    def kill_all(self) -> None:
        for worker_id in list(self._places):
            self.kill(worker_id)

    def tick(self) -> None:
        """To be called every second."""
        for place in self._places.values():
            if place.kill_at is not None and time.monotonic() >= place.kill_at:
                place.kill_at = None
                ray.kill(place.actor)
            if place.is_unheard:
                place.is_unheard = False
                self._hear(place, place.actor.wait.remote())
        self._look_at_waiting()

    def _request(self, launch: Launch) -> _Place:
        """Asks Ray for an actor, which it places when it can."""
        avoided = nodes_to_avoid(live_nodes(), self.spec.needed, launch.avoid) if launch.avoid else []
        options = self.spec.actor_options | {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 4}
        if avoided:
            options["label_selector"] = {_NODE_ID_LABEL: f"!in({', '.join(avoided)})"}
        return _Place(launch, avoided, ray.remote(WorkerParent).options(**options).remote())

    def _follow(self, place: _Place) -> None:
        spec, launch = self.spec, place.launch
        words = {
            "endpoint": spec.endpoint,
            "worker-id": launch.worker_id,
            "device": launch.device,
            "threads": launch.threads,
            "lease": f"{spec.lease:g}",
        }
        options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
        start = Start(spec.python, [*options, "--curve"], spec.server_key)
        self._hear(place, place.actor.start.remote(start))

    def _hear(self, place: _Place, answer: Any) -> None:
        answer.future().add_done_callback(lambda future: self.post(partial(self._settle, place, future)))

    def _settle(self, place: _Place, future: "Future[Running | Ended]") -> None:
        """Takes an answer of an actor."""
        launch = place.launch
        if self._places.get(launch.worker_id) is not place:
            return
        error = future.exception()
        if isinstance(error, ActorUnavailableError) and place.running:
            place.is_unheard = True
            return
        answer = _ended(error, place) if error else future.result()
        if isinstance(answer, Running):
            place.running = answer
            self.send(Placed(launch.worker_id, answer.host, answer.node, answer.public_key))
            self._hear(place, place.actor.wait.remote())
            return
        del self._places[launch.worker_id]
        self.send(Exited(launch.worker_id, answer.exit_code, answer.signal, answer.problem, answer.log))
        ray.kill(place.actor)  # gives its resources back

    def _look_at_waiting(self) -> None:
        waiting = [place for place in self._places.values() if not place.running and not place.is_killed]
        reason = self._why(waiting) if waiting else ""
        if reason != self.reason:
            self.reason = reason
            self.send(Waiting(reason))

    def _why(self, waiting: list[_Place]) -> str:
        try:
            nodes = live_nodes()
        except Exception as error:  # of many types, also where Ray cannot be asked for a moment
            return f"Ray does not tell what it has: {_brief(error)}"
        for place in waiting:
            if place.avoided and not nodes_to_avoid(nodes, self.spec.needed, place.avoided):
                self._ask_again(place)
        return waiting_reason(nodes, self.spec.needed, waiting[0].avoided, autoscaler())

    def _ask_again(self, place: _Place) -> None:
        """All other nodes that had room have left the cluster: the avoided ones will do."""
        del self._places[place.launch.worker_id]
        ray.kill(place.actor)
        self.launch(place.launch)


def _ended(error: BaseException, place: _Place) -> Ended:
    """Of a worker whose actor cannot tell any more."""
    if place.is_killed and isinstance(error, RayActorError):
        return Ended(None, "SIGKILL", None, "")
    where = f"lost with Ray's actor on {place.running.host} (node {place.running.node}): " if place.running else ""
    return Ended(None, None, where + _brief(error), "")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000] or type(error).__name__
