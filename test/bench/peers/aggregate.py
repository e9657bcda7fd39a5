"""
Folds updates in as peers do. With `flower`: Flower's own aggregation loop on whole updates, since it knows no
ranks. With `torch`: acc.add_(update, alpha=weight) on one thread, on the same ranks as ours.

    python aggregate.py '{"how": "torch", "r": 64, "width": 262144, "ranks": [64, 32, 16, 8], "passes": 3}'

Prints {"gb_per_s": …}: bytes of float32 payload, the median over the passes.
"""

import json
import statistics
import sys
import time

import numpy as np

asked = json.loads(sys.argv[1])
r, width, ranks = asked["r"], asked["width"], asked["ranks"]
update = np.full((r, width), 2**-10, np.float32)


def with_flower() -> int:
    from flwr.app import ArrayRecord, MetricRecord, RecordDict  # pyright: ignore[reportMissingImports]
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords  # pyright: ignore[reportMissingImports]

    global records
    if "records" not in globals():
        records = [
            RecordDict({"arrays": ArrayRecord([update]), "metrics": MetricRecord({"num-examples": 100})}) for _ in ranks
        ]
    started = time.perf_counter()
    mean = aggregate_arrayrecords(records, "num-examples")
    spent.append(time.perf_counter() - started)
    (values,) = mean.to_numpy_ndarrays()
    if not np.allclose(values[:1], update[:1]):
        raise SystemExit("flower: the mean of equal updates is not each of them")
    return len(ranks) * update.nbytes


def with_torch() -> int:
    import torch

    torch.set_num_threads(1)
    values, total = torch.from_numpy(update), torch.zeros(r, width)
    prefixes = [values[:rank] for rank in ranks]
    started = time.perf_counter()
    for rank, prefix in zip(ranks, prefixes, strict=True):
        total[:rank].add_(prefix, alpha=100.0)
    spent.append(time.perf_counter() - started)
    if total[0, 0].item() != len(ranks) * 100 * 2**-10:
        raise SystemExit("torch: the sum is wrong")
    return sum(ranks) * width * 4


spent: list[float] = []
folds = [with_flower() if asked["how"] == "flower" else with_torch() for _ in range(asked["passes"] + 1)]
print(json.dumps({"gb_per_s": folds[0] / statistics.median(spent[1:]) / 1e9}))
