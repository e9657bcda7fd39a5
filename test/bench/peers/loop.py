"""
A run as a plain loop over PyTorch and PEFT in one process: the same clients, batches, steps and evaluations.

    python loop.py '{"run": RUN_DIR, "model": PATH, "rounds": 1, "threads": 1, "device": "cpu"}'

Reads the clients and the data of a run of prelort. Prints {"seconds": …, "round_seconds": […], "peak_bytes": …}: from
the first evaluation on, the training of each round alone, and the peak memory of the last.
"""

import json
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from prelort_worker.device import forget_peak_memory, peak_memory
from prelort_worker.prepared_dataset import read_dataset
from prelort_worker.seeds import derive
from prelort_worker.tasks.find import find_task
from prelort_worker.training.batches import Batch, collate
from prelort_worker.training.steps import endless_batches
from prelort_worker.wire.specs import ModelSpec

asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
record, clients = (json.loads((Path(asked["run"]) / name).read_text()) for name in ("run.json", "clients.json"))
config, device = record["config"], torch.device(asked["device"])
fit, evaluation, lora, spec = config["fit"], config["evaluate"], config["lora"], config["model"]
tiers = record["layout"]["tiers"]
dataset = read_dataset(Path(record["index"]["path"]))
task = find_task(
    ModelSpec(asked["model"], None, spec["task"], None, spec.get("pooling"), spec["dtype"], None, None, False), device
)
task.labels, task.pad_token_id = dataset.info.labels, dataset.info.pad_token_id
torch.manual_seed(0)


def adapter(r: int) -> LoraConfig:
    return LoraConfig(
        r=r, lora_alpha=lora["scale"] * r, target_modules=lora["target_modules"], task_type=task.peft_type
    )


model = get_peft_model(task.build_model().to(device), adapter(tiers[0]), adapter_name=f"r{tiers[0]}")
for r in tiers[1:]:
    model.add_adapter(f"r{r}", adapter(r))


def trainable() -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def mean_loss(batch: Batch) -> torch.Tensor:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=spec["dtype"] == "bf16"):
        outputs = task.forward(model, batch.tensors)
    return task.losses(outputs, batch.tensors).sum() / batch.n_targets


def order_seed(number: int, client_id: str) -> int:
    """That of the run's own batches."""
    parts = [str(part) for part in (config["seed"], "round", number, "client", client_id, "fit")]
    digest = sha256("".join(f"{len(part.encode())}:{part}" for part in parts).encode()).hexdigest()
    return derive(digest[:32], "order")


def train_client(client_id: str, r: int, seed: int) -> None:
    model.set_adapter(f"r{r}")
    model.train()
    before = {name: value.detach().clone() for name, value in trainable().items()}
    optimizer = torch.optim.AdamW(trainable().values(), lr=fit["lr"], weight_decay=0.0)
    order = endless_batches(dataset.of_client(client_id), fit["batch_size"], np.random.default_rng(seed))
    for _ in range(fit["local_steps"]):
        optimizer.zero_grad()
        loss = mean_loss(collate(task, dataset, next(order), device))
        loss.backward()
        optimizer.step()
        loss.item()
    with torch.no_grad():  # a tenth of the change: ten clients are averaged
        for name, value in trainable().items():
            value.copy_(before[name] + (value - before[name]) / 10)


@torch.no_grad()
def evaluate() -> None:
    model.eval()
    examples = sorted(dataset.held_out, key=dataset.length)
    for r in tiers:
        model.set_adapter(f"r{r}")
        for start in range(0, len(examples), evaluation["batch_size"]):
            mean_loss(collate(task, dataset, examples[start : start + evaluation["batch_size"]], device)).item()


started, round_seconds, peak = time.perf_counter(), [], None
evaluate()
for number in range(1, asked["rounds"] + 1):
    forget_peak_memory(device)
    begun = time.perf_counter()
    for name, r in zip(clients["ids"], clients["r"], strict=True):
        train_client(name, r, order_seed(number, name))
    round_seconds.append(time.perf_counter() - begun)
    peak = peak_memory(device)
    evaluate()
print(json.dumps({"seconds": time.perf_counter() - started, "round_seconds": round_seconds, "peak_bytes": peak}))
