"""
A worker process: it connects, says hello, runs one task after another and exits with its controller.

    python -m prelort_worker --endpoint ipc:///… --worker-id w0 --parent-pid 4711 --device cpu --threads 1
"""

import argparse
import gc
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from .lifetime import die_with_parent

if TYPE_CHECKING:
    from .task_runner import TaskRunner
    from .wire.connection import Connection
    from .wire.link import Access

EXIT_WIRE = 4
EXIT_LOST_CONTROLLER = 5


def main() -> None:
    options = _parse_options()
    # Before anything else reads standard input. The wait also ends when the controller exits.
    access = _gain_access(options) if options.curve else None
    die_with_parent(options.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the controller handles Ctrl-C
    set_environment(options.threads)

    from .wire.connection import Connection

    connection = Connection(
        options.endpoint,
        options.worker_id,
        options.parent_pid,
        lambda error: _end_on_wire_failure(options, error),
        access,
    )
    if runner := _come_up(connection, options):
        from .serve import serve

        serve(connection, runner)
    connection.close()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="prelort_worker", description="A worker of prelort; its controller starts it."
    )
    parser.add_argument("--endpoint", required=True, help="the controller's ZeroMQ endpoint")
    parser.add_argument("--worker-id", required=True, help="this worker's name, its routing id")
    parser.add_argument(
        "--parent-pid",
        type=int,
        help="the controller's process, if it started this one itself; otherwise standard input ends with it",
    )
    parser.add_argument("--device", required=True, help="cpu, mps, cuda or cuda:N")
    parser.add_argument("--threads", required=True, type=int, help="torch threads")
    parser.add_argument("--curve", action="store_true", help="exchange keys on standard input and output")
    parser.add_argument(
        "--lease",
        type=float,
        default=30,
        help="with --curve: seconds that this worker may be without its controller",
    )
    return parser.parse_args()


def _gain_access(options: argparse.Namespace) -> "Access":
    from .wire.keys import exchange_keys
    from .wire.link import Access

    return Access(exchange_keys(), options.lease)


def set_environment(threads: int) -> None:
    """Libraries read these when they are imported."""
    os.environ.update(
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        CUBLAS_WORKSPACE_CONFIG=":4096:8",  # cuBLAS is not deterministic without it
        FLASH_ATTENTION_DETERMINISTIC="1",  # nor are the gradients of flash_attention_2
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        USE_TF="0",
    )


def _come_up(connection: "Connection", options: argparse.Namespace) -> "TaskRunner | None":
    """
    The slow imports, one by one, so that heartbeats name them; then hello. None if the device cannot be used: the
    controller knows, and this process waits until it is killed.
    """
    gc.disable()  # collecting during the imports took a seventh of their time
    connection.report("importing torch")
    import torch  # noqa: F401

    connection.report("importing transformers")
    import transformers

    connection.report("importing peft")
    from .task_runner import TaskRunner

    connection.report(f"preparing device {options.device}")
    from .device import choose_device, make_repeatable
    from .errors import InputError
    from .serve import as_text, say_hello
    from .wire.messages import Stop, Unavailable

    gc.freeze()  # what was imported stays: it is not looked through again and again
    gc.enable()
    transformers.utils.logging.disable_progress_bar()
    make_repeatable(options.threads)
    try:
        device = choose_device(options.device)
    except InputError as error:
        connection.send(Unavailable(as_text(str(error))))
        while not isinstance(connection.take(), Stop):
            pass
        return None
    say_hello(connection, device, options.threads, options.parent_pid)
    return TaskRunner(device)


def _end_on_wire_failure(options: argparse.Namespace, error: BaseException) -> None:
    """Ends the process from this thread, since the main thread may be in the middle of a fit."""
    from .wire.link import LostController

    is_lost = isinstance(error, LostController)
    if not is_lost:
        traceback.print_exception(error)
    reason = str(error) if is_lost else f"{type(error).__name__}: {error}"
    print(f"prelort-worker {options.worker_id}: {reason}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_LOST_CONTROLLER if is_lost else EXIT_WIRE)


if __name__ == "__main__":
    main()
