"""Whole models: an adapter merged into its base, saved, and loaded again by transformers alone."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import nested_of, random_adapter
from prelort_worker.errors import InputError
from prelort_worker.files.source_files import describe_source
from prelort_worker.merge import Request, export
from prelort_worker.models import MeanPooledClassifier
from prelort_worker.training.nested_lora import NestedLora, activate, write
from prelort_worker.wire.specs import LoraSpec
from prelort_worker.wire.validation import to_map
from safetensors.torch import load_file, save_file
from specs import LORA
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

TOKENS = torch.arange(4, 28).view(2, 12)
TOPICS = ["animal", "food", "tool", "weather"]


def request_of(nested: NestedLora, folder: Path, r: int, labels: list[str], **changes: Any) -> Request:
    """The rank-r prefix of a random adapter, as the controller hands it over."""
    rows, dense = random_adapter(nested, r)
    (folder / "out").mkdir()
    save_file({"rows": rows, "dense": dense}, folder / "components.safetensors")
    request = Request(
        model=nested.task.model,
        base={},
        cache_dir=str(folder / "cache"),
        labels=labels,
        modules_to_save=[module.name for module in nested.saved],
        scale=nested.scale,
        modules=[module.shape for module in nested.modules],
        dense=nested.dense_shapes,
        components=str(folder / "components.safetensors"),
        dtype="f32",
        out=str(folder / "out"),
    )
    return replace(request, **changes)


@torch.no_grad()
def trained_logits(nested: NestedLora, r: int) -> torch.Tensor:
    write(nested, r, *random_adapter(nested, r))
    activate(nested, r)
    return nested.model.eval()(input_ids=TOKENS).logits


@torch.no_grad()
def test_a_merged_language_model_computes_what_it_does_with_its_adapter(tiny: Path, tmp_path: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    assert export(request_of(nested, tmp_path, 4, [])) == []
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    expected = trained_logits(nested, 4)
    assert torch.allclose(whole(input_ids=TOKENS).logits, expected, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(tiny / "tiny-llama").eval()
    assert (base(input_ids=TOKENS).logits - expected).abs().max() > 1e-2
    assert whole.config.use_cache is True
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("Define the noun w03")["input_ids"][0] > 3
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize(("dtype", "stored"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_merged_weights_are_rounded_once(tiny: Path, tmp_path: Path, dtype: str, stored: torch.dtype) -> None:
    nested = nested_of(tiny, "causal-lm")
    request = request_of(nested, tmp_path, 2, [], dtype=dtype)
    export(request)
    halves = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in halves.values()} == {stored}
    (tmp_path / "whole").mkdir()
    export(replace(request, dtype="f32", out=str(tmp_path / "whole")))
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert all(torch.equal(halves[name], whole[name].to(stored)) for name in whole)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == stored


@torch.no_grad()
def test_a_classifier_keeps_its_head_and_the_names_of_its_labels(tiny: Path, tmp_path: Path) -> None:
    nested = nested_of(tiny, "sequence-classification")
    export(request_of(nested, tmp_path, 8, TOPICS))
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(whole(input_ids=TOKENS).logits, trained_logits(nested, 8), atol=1e-5)
    assert whole.config.id2label == dict(enumerate(TOPICS))


@torch.no_grad()
def test_a_mean_pooled_classifier_is_loaded_by_its_own_class(tiny: Path, tmp_path: Path) -> None:
    nested = nested_of(tiny, "sequence-classification", pooling="mean")
    export(request_of(nested, tmp_path, 8, TOPICS))
    whole = MeanPooledClassifier.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(whole(TOKENS).logits, trained_logits(nested, 8), atol=1e-5)
    assert whole.config.id2label == dict(enumerate(TOPICS))


@torch.no_grad()
def test_the_transposed_weights_of_gpt2_are_merged_too(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 64, "n_positions": 32, "n_embd": 32, "n_layer": 1, "n_head": 2}
    base = with_tokenizer(GPT2LMHeadModel(GPT2Config(**sizes)), tiny, tmp_path)
    nested = nested_of(tiny, "causal-lm", replace(LORA, target_modules=["c_attn", "c_fc"]), name_or_path=base)
    assert export(request_of(nested, tmp_path, 4, [])) == []
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(whole(input_ids=TOKENS).logits, trained_logits(nested, 4), atol=1e-5)
    assert whole.lm_head.weight is whole.get_input_embeddings().weight


@torch.no_grad()
def test_an_adapted_head_is_untied_from_the_embeddings(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=2, tie_word_embeddings=True)
    base = with_tokenizer(LlamaForCausalLM(config), tiny, tmp_path)
    lora: LoraSpec = replace(LORA, target_modules=["q_proj", "lm_head"])
    nested = nested_of(tiny, "causal-lm", lora, name_or_path=base)
    (remark,) = export(request_of(nested, tmp_path, 4, []))
    assert re.search(r"\blm_head\.weight\b.*\bmodel\.embed_tokens\.weight\b", remark)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(whole(input_ids=TOKENS).logits, trained_logits(nested, 4), atol=1e-5)
    before = AutoModelForCausalLM.from_pretrained(base)
    assert torch.equal(whole.model.embed_tokens.weight, before.model.embed_tokens.weight)


def test_a_model_other_than_the_runs_is_refused_by_the_modules_name(tiny: Path, tmp_path: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    request = request_of(nested, tmp_path, 2, [])
    other = replace(request.modules[0], out=48)
    with pytest.raises(InputError, match=rf"{other.name}: .*\[48, 32\].*\[32, 32\]"):
        export(replace(request, modules=[other, *request.modules[1:]]))


def test_the_program_answers_with_one_line(tiny: Path, tmp_path: Path) -> None:
    request = request_of(nested_of(tiny, "causal-lm"), tmp_path, 2, [])
    assert run(request) == {"remarks": []}
    assert (tmp_path / "out" / "config.json").exists()
    gone = replace(request, model=replace(request.model, name_or_path="/nowhere"))
    error = run(gone)["error"]
    assert "/nowhere" in error and "Hugging Face hub" in error
    assert "/nowhere: expected a folder with a model" in error


def run(request: Request) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-m", "prelort_worker.export", "--parent-pid", str(os.getpid())],
        input=json.dumps(to_map(request)) + "\n",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "workers")},
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def with_tokenizer(model: Any, tiny: Path, folder: Path) -> str:
    model.save_pretrained(folder / "base")
    AutoTokenizer.from_pretrained(tiny / "tiny-llama").save_pretrained(folder / "base")
    return str(folder / "base")


def test_a_changed_base_model_is_refused_by_file(tiny: Path, tmp_path: Path):
    nested = nested_of(tiny, "causal-lm")
    source = describe_source(nested.task.model, tmp_path / "cache")
    base = {file.name: file.sha256 for file in source.files}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= base.keys()
    request = request_of(nested, tmp_path, 4, [], base=base)
    export(request)
    changes = [{"model.safetensors": "0" * 64}, {"added.json": "0" * 64}, {"tokenizer.json": "0" * 64}]
    for change in changes:
        with pytest.raises(InputError, match=rf"^{next(iter(change))} of .*tiny-llama: "):
            export(replace(request, base={**base, **change}))
