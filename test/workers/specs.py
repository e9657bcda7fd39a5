"""Specs as the controller sends them, for the tiny models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from prelort_worker.wire.specs import DataSpec, FitSpec, LoraSpec, ModelSpec, PartitionSpec

# Built-in tasks over the text of tiny.py.
TASKS = ["causal-lm", "sequence-classification"]
SEED = "0123456789abcdef" * 2
TIERS = [1, 2, 4, 8]
IID = PartitionSpec("iid", None, None, 1, None, None)
LORA = LoraSpec(8, TIERS, 2.0, "all-linear", None, 0.0)
FIT = FitSpec("stratified", 0.5, 4, 8, 1, False, False, 1e-2, 1e-2, 1e-2, False, 0.0)


def model_spec(folder: Path, task: str, **changes: Any) -> ModelSpec:
    name = folder / ("tiny-llama" if task == "causal-lm" else "tiny-bert")
    return replace(ModelSpec(str(name), None, task, None, None, "f32", None, None, False), **changes)


def data_spec(folder: Path, task: str, **changes: Any) -> DataSpec:
    is_language = task == "causal-lm"
    spec = DataSpec(
        path=str(folder / ("words.jsonl" if is_language else "topics.jsonl")),
        subset=None,
        split=None,
        eval_path=None,
        eval_split=None,
        text=None if is_language else "{text}",
        label=None if is_language else "topic",
        prompt="Define the noun {word}:" if is_language else None,
        answer="{gloss}" if is_language else None,
        messages=None,
        image=None,
        chat=False,
        max_length=32,
        packing=False,
        max_examples=None,
        eval_examples=24,
        client_eval_examples=0,
        clients=4,
        partition=IID,
    )
    return replace(spec, **changes)
