"""Compares saved adapters, as PEFT loads them, with their components merged by hand into a plain transformers model.

    python test/e2e/compare_architectures.py RUN_DIR …

prints {name of the run: {tier: {"difference": largest absolute difference of logits, "moved": largest change against
the base model}, …, "warnings": PEFT's warnings about keys}}, and as "whole" the difference of the model that rank 3
was merged into, if it is beside the runs as NAME-merged. Imports nothing from prelort.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

CLASSES = {
    "causal-lm": transformers.AutoModelForCausalLM,
    "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
    "sequence-classification": transformers.AutoModelForSequenceClassification,
    "image-classification": transformers.AutoModelForImageClassification,
}
TOKENS = torch.arange(4, 28).view(2, 12)


@torch.no_grad()
def compare(run: Path) -> dict[str, Any]:
    record = json.loads((run / "run.json").read_text())
    last = max((run / "rounds").iterdir(), key=lambda folder: int(folder.name))
    plain = logits(load(record), record)
    found: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for r in record["layout"]["tiers"]:
            peft = logits(PeftModel.from_pretrained(load(record), run / "adapters" / f"r{r}").eval(), record)
            by_hand = logits(merged(load(record), last / "global.safetensors", r), record)
            found[str(r)] = {"difference": spread(peft, by_hand), "moved": spread(peft, plain)}
    whole = run.parents[1] / f"{run.name}-merged"
    if whole.exists():
        torch.manual_seed(0)
        taken = CLASSES[record["config"]["model"]["task"]].from_pretrained(whole).eval()
        by_hand = merged(load(record), last / "global.safetensors", 3)
        found["whole"] = {"difference": spread(logits(taken, record), logits(by_hand, record))}
    return {**found, "warnings": [str(each.message) for each in heard if "key" in str(each.message)]}


def load(record: dict[str, Any]) -> Any:
    """A new head is drawn from the same seed each time, then overwritten by the trained one."""
    torch.manual_seed(0)
    labels = {"num_labels": len(record["labels"])} if record["labels"] else {}
    model = record["config"]["model"]
    return CLASSES[model["task"]].from_pretrained(model["name_or_path"], **labels).eval()


def merged(model: Any, file: Path, r: int) -> Any:
    """W + s·Σ_{j<r} B[:, j]·A[j, :], from the first r rows."""
    with safe_open(file, "pt") as opened:
        layout = json.loads(opened.metadata()["layout"])
        rows, dense = opened.get_tensor("rows")[:r], opened.get_tensor("dense")
    at = 0
    for module in layout["modules"]:
        a, b = rows[:, at : at + module["in"]], rows[:, at + module["in"] : at + module["in"] + module["out"]]
        layer = model.get_submodule(module["name"])
        change = layout["scale"] * (b.T @ a)
        layer.weight.add_(change.T if isinstance(layer, Conv1D) else change)
        at += module["in"] + module["out"]
    at = 0
    for parameter in layout["dense"]:
        value = model.get_parameter(parameter["name"])
        value.copy_(dense[at : at + value.numel()].view_as(value))
        at += value.numel()
    return model


def logits(model: Any, record: dict[str, Any]) -> torch.Tensor:
    task = record["config"]["model"]["task"]
    if task == "image-classification":
        return model(pixel_values=torch.linspace(-1, 1, 2 * 3 * 256).view(2, 3, 16, 16)).logits
    decoder = {"decoder_input_ids": TOKENS.flip(1)} if task == "seq2seq-lm" else {}
    return model(input_ids=TOKENS, **decoder).logits


def spread(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    print(json.dumps({Path(run).name: compare(Path(run)) for run in sys.argv[1:]}))
