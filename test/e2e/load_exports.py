"""Loads exports as users would, and makes an adapter that only PEFT can make.

    PYTHONPATH=workers python test/e2e/load_exports.py

answers each line of standard input, a request, with a line of JSON:

    ["compare", {NAME: FOLDER, …}]      distance of each one's logits to the first
    ["compare_tiers", RUN_DIR, BASE]    that of a run's saved tiers to the worker's own model, see compare_logits.py
    ["labels", FOLDER]                  id2label of a whole model
    ["patterned", BASE, FOLDER]         makes a PEFT adapter of several ranks and scales

A folder is a PEFT adapter, a whole model, or a round of a run; its components are merged here by hand.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from compare_logits import compare_tiers
from peft import LoraConfig, PeftModel, get_peft_model
from prelort_worker.models import MeanPooledClassifier
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = torch.arange(4, 28).view(2, 12)


@torch.no_grad()
def compare(named: dict[str, str]) -> dict[str, float]:
    logits = {name: load(Path(folder)).eval()(input_ids=TOKENS).logits.float() for name, folder in named.items()}
    first = next(iter(logits.values()))
    return {name: float((other - first).abs().max()) for name, other in logits.items()}


def load(folder: Path) -> Any:
    if (folder / "global.safetensors").exists():
        return merged_by_hand(folder)
    if not (folder / "adapter_config.json").exists():
        return load_base(str(folder))
    settings = json.loads((folder / "adapter_config.json").read_text())
    base = settings["base_model_name_or_path"]
    if settings["task_type"] != "SEQ_CLS":
        return PeftModel.from_pretrained(load_base(base), folder)
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        labels = len(file.get_tensor("base_model.model.classifier.bias"))
    return PeftModel.from_pretrained(MeanPooledClassifier.from_encoder(base, labels), folder)


def load_base(folder: str) -> Any:
    architectures = AutoConfig.from_pretrained(folder).architectures or []
    is_ours = "MeanPooledClassifier" in architectures
    return (MeanPooledClassifier if is_ours else AutoModelForCausalLM).from_pretrained(folder)


def merged_by_hand(round_folder: Path) -> Any:
    record = json.loads((round_folder.parents[1] / "run.json").read_text())
    model = load_base(record["config"]["model"]["name_or_path"])
    with safe_open(round_folder / "global.safetensors", "pt") as file:
        layout = json.loads(file.metadata()["layout"])
        rows = torch.cat([file.get_tensor(name) for name in ("merged", "rows") if name in file.keys()])  # noqa: SIM118
    offset = 0
    for module in layout["modules"]:
        a, b = rows[:, offset:][:, : module["in"]], rows[:, offset + module["in"] :][:, : module["out"]].T
        model.get_submodule(module["name"]).weight.data += layout["scale"] * b @ a
        offset += module["in"] + module["out"]
    return model


def patterned(base: str, folder: str) -> None:
    torch.manual_seed(0)
    config = LoraConfig(
        r=6,
        lora_alpha=9,
        use_rslora=True,
        target_modules=["q_proj", "v_proj"],
        rank_pattern={"v_proj": 2, "layers.1.self_attn.q_proj": 4},
        alpha_pattern={"v_proj": 5},
    )
    model = get_peft_model(load_base(base), config)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    model.save_pretrained(folder)


def labels(folder: str) -> Any:
    return AutoConfig.from_pretrained(folder).id2label


VERBS = {"compare": compare, "compare_tiers": compare_tiers, "labels": labels, "patterned": patterned}

if __name__ == "__main__":
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(VERBS[verb](*arguments)), flush=True)
