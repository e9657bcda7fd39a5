"""
A worker with a small task in plain torch, so that it starts fast. It has the real worker's wire, threads and lifetime,
and injects faults.

    PRELORT_CHAOS='{"clients": 8, "seed": 1, "rate": 0.2, "log": "faults.jsonl", "sharing": "sharing.jsonl"}' \\
        python task_worker.py <its options>

A fraction `rate` of the first two attempts at a fit fail; the seed determines which and how. Each fault is written to
`log`. A worker on another host that reads what another worker keeps there writes that to `sharing`, once.
"""

import os

import chaotic_wire
from prelort_worker import __main__ as worker
from prelort_worker.lifetime import die_with_parent
from prelort_worker.serve import serve
from prelort_worker.wire import connection as wired
from prelort_worker.wire.messages import Device, Hello
from prelort_worker.wire.shared_memory import can_share_with, memory_domain


def main() -> None:
    options = worker._parse_options()
    access = worker._gain_access(options) if options.curve else None
    die_with_parent(options.parent_pid)
    chaotic_wire.install(options.worker_id)
    connection = wired.Connection(
        options.endpoint,
        options.worker_id,
        options.parent_pid,
        lambda error: worker._end_on_wire_failure(options, error),
        access,
    )
    # As in the real worker, the slow imports follow: only the connection notices when the controller is lost.
    connection.report("importing torch")
    import torch
    from prelort_worker.device import make_repeatable
    from small_task import SmallTask

    make_repeatable(options.threads)
    connection.report("idle")
    is_local = options.parent_pid is not None and can_share_with(options.parent_pid)
    shares_memory = is_local and options.worker_id.startswith("w0")
    domain = memory_domain() if options.curve else None
    device = Device("cpu", "chaos", None, None)
    versions = {"torch": str(torch.__version__)}
    connection.send(Hello(os.getpid(), versions, {}, device, options.threads, shares_memory, "chaos", domain))
    serve(connection, SmallTask())  # pyright: ignore[reportArgumentType] - it answers as a client does
    connection.close()


main()
