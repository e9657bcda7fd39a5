"""Compares, at every tier of a finished run, the logits of the worker's own model with those of PEFT's."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from prelort_worker.models import MeanPooledClassifier
from prelort_worker.tasks.find import find_task
from prelort_worker.training.add_adapters import add_adapters
from prelort_worker.training.nested_lora import activate, write
from prelort_worker.wire.specs import LoraSpec, ModelSpec
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel


def compare_tiers(run_dir: str, base: str) -> dict[int, dict[str, float]]:
    """Of each rank the largest absolute difference, and the largest change against the base model."""
    run = Path(run_dir)
    record = json.loads((run / "run.json").read_text())
    last = max((run / "rounds").iterdir(), key=lambda folder: int(folder.name))
    saved = load_file(last / "global.safetensors")
    rows, dense = saved["rows"], saved.get("dense", torch.zeros(0))
    config = record["config"]
    lora = LoraSpec(
        r=config["lora"]["r"],
        tiers=record["layout"]["tiers"],
        scale=config["lora"]["scale"],
        target_modules=config["lora"]["target_modules"],
        modules_to_save=None,
        lora_dropout=0.0,
    )
    model = ModelSpec(base, None, config["model"]["task"], None, None, "f32", None, None, False)
    task = find_task(model, torch.device("cpu"))
    tokens = torch.randint(4, 40, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = load_base(base, record).eval()(input_ids=tokens).logits
        ours = add_adapters(load_base(base, record), task, lora)
        differences = {}
        for r in lora.tiers:
            write(ours, r, rows[:r], dense)
            activate(ours, r)
            ours.model.eval()
            theirs = PeftModel.from_pretrained(load_base(base, record), run / "adapters" / f"r{r}").eval()
            worker, peft = ours.model(input_ids=tokens).logits, theirs(input_ids=tokens).logits
            differences[r] = {"difference": spread(worker, peft), "moved": spread(peft, plain)}
    return differences


def load_base(base: str, record: dict) -> PreTrainedModel:
    torch.manual_seed(0)
    if record["config"]["model"].get("pooling") == "mean":
        return MeanPooledClassifier.from_encoder(base, num_labels=len(record["labels"]))
    if record["config"]["model"]["task"] == "causal-lm":
        return AutoModelForCausalLM.from_pretrained(base)
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(record["labels"]))


def spread(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
