"""Specs as the controller sends them, for the tiny models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from prelort_worker.messages import DataSpec, FitSpec, LoraSpec, ModelSpec, PartitionSpec, Task

SEED = "0123456789abcdef" * 2
TIERS = [1, 2, 4, 8]
IID = PartitionSpec("iid", None, None, 1)
LORA = LoraSpec(8, TIERS, 2.0, "all-linear", [], 0.0)
FIT = FitSpec("stratified", 0.5, 4, 8, 1, False, False, False, 1e-2, 1e-2, False, 0.0)


def model_spec(folder: Path, task: Task) -> ModelSpec:
    return ModelSpec(str(folder / ("tiny-llama" if task == "causal-lm" else "tiny-bert")), task, None, "f32")


def data_spec(folder: Path, task: Task, **changes: Any) -> DataSpec:
    if task == "causal-lm":
        spec = DataSpec(
            str(folder / "words.jsonl"), None, None, "Define the noun {word}:", "{gloss}", 32, None, 24, 0, 4, IID
        )
    else:
        spec = DataSpec(str(folder / "topics.jsonl"), "{text}", "topic", None, None, 32, None, 24, 0, 4, IID)
    return replace(spec, **changes)
