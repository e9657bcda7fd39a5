"""
What a Ray job of prelort runs: it starts and ends workers on the cluster, as its controller asks.

    python run.py prelort_worker.cluster.driver --endpoint tcp://10.0.0.5:49213 --worker-id launcher-0 \\
        --server-key='…' --lease 30 --resources '{"num_cpus": 4, "num_gpus": 1, "resources": {}}'

It makes its own key pair and prints the public key as `prelort-key KEY`. With that it joins the controller, as a worker
does. It ends when it cannot reach the controller, and Ray ends its actors then: what they belong to is gone. A key may
start with `-`, hence the `=`, and has characters that a shell must not read.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..wire.launcher_messages import Kill, Launch, Waiting
from .capacity import Resources

if TYPE_CHECKING:
    from .channel import Channel, Command

EXIT_WIRE = 4
EXIT_LOST_CONTROLLER = 5
STARTING = "the launcher connects to Ray"
_TICK_SECONDS = 1.0
# How long the workers of a driver that is told to stop may take to end.
_STOP_SECONDS = 3.0

# Modules that it needs, and the packages that bring them.
_NEEDED = {"ray": "ray", "zmq": "pyzmq", "msgpack": "msgpack", "cryptography": "cryptography"}

Call = Callable[[], None]


def main() -> None:
    options = parse_options()
    if missing := [package for module, package in _NEEDED.items() if find_spec(module) is None]:
        sys.exit(
            f"prelort-launcher: {sys.executable}, which jobs on this cluster run with, lacks {', '.join(missing)}: "
            "start Ray with the folder of its own Python first on PATH, and install them there, or name them in "
            "workers.cluster.runtime_env: { pip: […] }"
        )
    from ..wire.keys import announce, make_keys
    from ..wire.link import Access
    from .channel import Channel

    keys = make_keys(options.server_key)
    commands: queue.SimpleQueue[Call | Command] = queue.SimpleQueue()
    is_stopping = threading.Event()
    channel = Channel(
        options.endpoint,
        options.worker_id,
        Access(keys, options.lease),
        commands.put,
        lambda error: _end_on_failure(error, is_stopping),
    )
    announce(keys)
    # Shows the controller that this program has been let in.
    channel.send(Waiting(STARTING))

    import ray  # pyright: ignore[reportMissingImports]

    ray.init(options.address, log_to_driver=False)
    _serve(options, channel, commands)
    is_stopping.set()
    ray.shutdown()
    channel.close()


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="prelort_worker.cluster.driver", description="Starts workers on a Ray cluster."
    )
    parser.add_argument("--endpoint", required=True, help="the controller's ZeroMQ endpoint")
    parser.add_argument("--worker-id", required=True, help="the name under which this driver joins")
    parser.add_argument("--server-key", required=True, help="the controller's public key, 40 characters of Z85")
    parser.add_argument(
        "--lease", type=float, default=30, help="seconds that it, or a worker, may be without the controller"
    )
    parser.add_argument(
        "--resources",
        type=_read_resources,
        default={},
        help="of each worker, as JSON: num_cpus, num_gpus and resources",
    )
    parser.add_argument(
        "--python", default="", help="the workers' interpreter; by default the one of Ray's own workers"
    )
    parser.add_argument("--address", help="of the cluster; by default that of the job")
    return parser.parse_args(words)


def _read_resources(text: str) -> dict[str, object]:
    value: dict[str, object] = {}
    try:
        value = json.loads(text)
        own = value.get("resources", {})
        numbers = [
            value.get("num_cpus", 0),
            value.get("num_gpus", 0),
            *(own.values() if isinstance(own, dict) else "?"),
        ]
        is_known = value.keys() <= {"num_cpus", "num_gpus", "resources"}
    except (ValueError, AttributeError):
        numbers, is_known = [], False
    if not is_known or not all(type(number) in (int, float) for number in numbers):
        raise argparse.ArgumentTypeError(f'expected JSON like {{"num_cpus": 4, "resources": {{"A": 1}}}}, got {text}')
    return value


def needed_resources(actor_options: dict[str, object]) -> Resources:
    """Under the names that Ray's nodes use."""
    named = {"CPU": actor_options.get("num_cpus", 0), "GPU": actor_options.get("num_gpus", 0)}
    own = actor_options.get("resources", {})
    assert isinstance(own, dict)
    return {name: float(amount) for name, amount in {**named, **own}.items() if amount}


def _serve(options: argparse.Namespace, channel: "Channel", commands: "queue.SimpleQueue[Call | Command]") -> None:
    from .launches import Launches, Spec

    actor_options = {"num_cpus": 0, "num_gpus": 0} | options.resources
    needed = needed_resources(actor_options)
    spec = Spec(needed, actor_options, options.endpoint, options.server_key, options.lease, options.python)
    launches = Launches(spec, channel.send, commands.put, STARTING)
    stop_at: float | None = None
    next_tick = time.monotonic()
    while stop_at is None or (len(launches) and time.monotonic() < stop_at):
        if time.monotonic() >= next_tick:
            launches.tick()
            next_tick = time.monotonic() + _TICK_SECONDS
        try:
            command = commands.get(timeout=max(0, next_tick - time.monotonic()))
        except queue.Empty:
            continue
        if isinstance(command, Launch):
            launches.launch(command)
        elif isinstance(command, Kill):
            launches.kill(command.worker_id)
        elif callable(command):
            command()
        else:
            launches.kill_all()
            stop_at = time.monotonic() + _STOP_SECONDS


def _end_on_failure(error: BaseException, is_stopping: threading.Event) -> None:
    """Ends the process from the channel's thread; the main thread may be waiting for Ray."""
    from ..wire.link import LostController

    if is_stopping.is_set():  # and the controller did not wait for it
        os._exit(0)
    is_lost = isinstance(error, LostController)
    if not is_lost:
        traceback.print_exception(error)
    print(f"prelort-launcher: {error}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_LOST_CONTROLLER if is_lost else EXIT_WIRE)


if __name__ == "__main__":
    main()
