"""
CPU time of a nested step against a plain LoRA step of PEFT, on the quickstart's model and one thread.

    python plain_step.py '{"model": PATH, "index": PATH, "steps": 3, "repeats": 3}'

Prints milliseconds per step: {"plain": …, "stratified": …, "sampled": …, "sum": …, "truncations": 5}.
"""

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from prelort_worker.prepared_dataset import read_dataset
from prelort_worker.seeds import derive
from prelort_worker.tasks.find import find_task
from prelort_worker.training.batches import collate
from prelort_worker.training.build import build_from_task
from prelort_worker.training.steps import endless_batches
from prelort_worker.training.train import train
from prelort_worker.wire.specs import FitSpec, LoraSpec, ModelSpec

SEED, BATCH, TIERS = "0" * 32, 16, [1, 2, 4, 8, 16]
asked = json.loads(sys.argv[1])
torch.set_num_threads(1)
dataset = read_dataset(Path(asked["index"]))
cpu = torch.device("cpu")
model = ModelSpec(asked["model"], None, "sequence-classification", None, "mean", "f32", None, None, False)
task = find_task(model, cpu)
task.labels, task.pad_token_id = dataset.info.labels, dataset.info.pad_token_id
lora = LoraSpec(16, TIERS, 2.0, ["query", "value"], None, 0.0)
spec = FitSpec("none", None, asked["steps"], BATCH, 1, False, False, 1e-3, 1e-3, 1e-3, False, 0.0)
examples = range(min(2000, len(dataset.lengths)))

nested = build_from_task(task, lora, SEED)
config = LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"], task_type="SEQ_CLS")
plain_model = get_peft_model(task.build_model(), config)


def plain() -> None:
    parameters = [parameter for parameter in plain_model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    order = endless_batches(examples, BATCH, np.random.default_rng(derive(SEED, "order")))  # the same batches as ours
    plain_model.train()
    for _ in range(asked["steps"]):
        batch = collate(task, dataset, next(order), cpu)
        optimizer.zero_grad()
        outputs = task.forward(plain_model, batch.tensors)
        loss = task.losses(outputs, batch.tensors).sum() / batch.n_targets
        loss.backward()
        optimizer.step()
        loss.item()


def ours(objective) -> None:
    train(nested, 16, dataset, examples, replace(spec, objective=objective), SEED, lambda step, steps: None)


def measure(work) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / asked["steps"]


figures = {"plain": [], "stratified": [], "sampled": [], "sum": []}
for repeat in range(asked["repeats"] + 1):
    for name, spent in figures.items():
        value = measure(plain if name == "plain" else lambda name=name: ours(name))
        if repeat > 0:  # the first warms up
            spent.append(value)
medians = {name: statistics.median(spent) for name, spent in figures.items()}
print(json.dumps({**medians, "truncations": len(TIERS)}))
