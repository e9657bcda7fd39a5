"""
A run as a plain loop over PyTorch and PEFT in one process: the same clients, batches, steps and evaluations.

    python loop.py '{"run": RUN_DIR, "model": PATH, "rounds": 1, "threads": 1}'

Reads the clients and the data of a run of prelort. Prints {"seconds": …}, from the first evaluation on.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from prelort_worker.prepared_dataset import read_dataset
from prelort_worker.tasks.find import find_task
from prelort_worker.training.batches import Batch, collate
from prelort_worker.training.steps import endless_batches
from prelort_worker.wire.specs import ModelSpec

asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
record = json.loads((Path(asked["run"]) / "run.json").read_text())
config = record["config"]
fit, evaluation, lora = config["fit"], config["evaluate"], config["lora"]
tiers = record["layout"]["tiers"]
dataset = read_dataset(Path(record["index"]["path"]))
task = find_task(
    ModelSpec(
        asked["model"], None, config["model"]["task"], None, config["model"]["pooling"], "f32", None, None, False
    ),
    torch.device("cpu"),
)
task.labels, task.pad_token_id = dataset.info.labels, dataset.info.pad_token_id
torch.manual_seed(0)


def adapter(r: int) -> LoraConfig:
    return LoraConfig(r=r, lora_alpha=lora["scale"] * r, target_modules=lora["target_modules"], task_type="SEQ_CLS")


model = get_peft_model(task.build_model(), adapter(tiers[0]), adapter_name=f"r{tiers[0]}")
for r in tiers[1:]:
    model.add_adapter(f"r{r}", adapter(r))
cpu = torch.device("cpu")


def trainable() -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def mean_loss(batch: Batch) -> torch.Tensor:
    outputs = task.forward(model, batch.tensors)
    return task.losses(outputs, batch.tensors).sum() / batch.n_targets


def train_client(client_id: str, r: int, seed: int) -> None:
    model.set_adapter(f"r{r}")
    model.train()
    before = {name: value.detach().clone() for name, value in trainable().items()}
    optimizer = torch.optim.AdamW(trainable().values(), lr=fit["lr"], weight_decay=0.0)
    order = endless_batches(dataset.of_client(client_id), fit["batch_size"], np.random.default_rng(seed))
    for _ in range(fit["local_steps"]):
        optimizer.zero_grad()
        loss = mean_loss(collate(task, dataset, next(order), cpu))
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
            mean_loss(collate(task, dataset, examples[start : start + evaluation["batch_size"]], cpu)).item()


started = time.perf_counter()
evaluate()
for number in range(asked["rounds"]):
    for index, client in enumerate(record["clients"]):
        train_client(client["id"], client["r"], 100 * number + index)
    evaluate()
print(json.dumps({"seconds": time.perf_counter() - started}))
