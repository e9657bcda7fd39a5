"""
Flower's simulation engine with clients that only echo: the cost of a round besides training.

    python flower.py '{"clients": 10, "sampled": 10, "floats": 256, "rounds": 20, "cpus": 2}'

Prints {"round_ms": [...], "cpu_ms": [...], "version": ...}: the time of each round, and the CPU time of the server's
process, from configure_train to the end of aggregate_train. Each client has one CPU.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict  # pyright: ignore[reportMissingImports]
from flwr.clientapp import ClientApp  # pyright: ignore[reportMissingImports]
from flwr.serverapp import Grid, ServerApp  # pyright: ignore[reportMissingImports]
from flwr.serverapp.strategy import FedAvg  # pyright: ignore[reportMissingImports]
from flwr.simulation import run_simulation  # pyright: ignore[reportMissingImports]

asked = json.loads(sys.argv[1])
rounds: list[tuple[float, float]] = []
client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 100})})
    return Message(content=content, reply_to=message)


class TimedFedAvg(FedAvg):
    def configure_train(self, *args, **kwargs):
        self.started = time.perf_counter(), time.process_time()
        return super().configure_train(*args, **kwargs)

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        wall, cpu = self.started
        rounds.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
        failed = sum(reply.has_error() for reply in replies)
        if failed or len(replies) != asked["sampled"]:
            raise SystemExit(f"flower: {len(replies)} replies, {failed} of them errors; expected {asked['sampled']}")
        return arrays, metrics


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    values = np.random.default_rng(0).standard_normal(asked["floats"], dtype=np.float32)
    strategy = TimedFedAvg(
        fraction_train=asked["sampled"] / asked["clients"],
        fraction_evaluate=0.0,
        min_train_nodes=asked["sampled"],
        min_available_nodes=asked["clients"],
    )
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([values]), num_rounds=asked["rounds"])
    # Every client returns what it received, so the mean equals it.
    (last,) = result.arrays.to_numpy_ndarrays()
    if not np.allclose(last, values, rtol=1e-5, atol=1e-6):
        raise SystemExit("flower: the mean of the echoes differs from what was sent")


backend = {"init_args": {"num_cpus": asked["cpus"]}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
run_simulation(server_app, client_app, num_supernodes=asked["clients"], backend_config=backend)
if len(rounds) != asked["rounds"]:
    raise SystemExit(f"flower: {len(rounds)} of {asked['rounds']} rounds ended")
figures = {"round_ms": [wall for wall, _ in rounds], "cpu_ms": [cpu for _, cpu in rounds], "version": version("flwr")}
print(json.dumps(figures))
