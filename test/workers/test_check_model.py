"""What is known of a model before its weights are read, and what of it is adapted."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import CPU, come_up, quiet
from more_models import TOKENIZER, save_model, tiny_config, write_t5, write_vit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from prelort_worker.errors import InputError
from prelort_worker.models import _kept_whole
from prelort_worker.tasks.find import find_task
from prelort_worker.training.add_adapters import add_adapters, n_weights
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import LoraSpec
from specs import LORA, SEED, data_spec, model_spec
from told import Told, prepare
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    RobertaConfig,
    RobertaModel,
)


def run(model: Path, task: str, cache: Path, lora: LoraSpec = LORA, **data: Any) -> Told:
    spec = model_spec(model, task, name_or_path=str(model))
    return prepare(Prepare("p", 1, SEED, spec, lora, data_spec(model, task, **data), str(cache)), CPU, quiet)


def refusal(*arguments: Any, **options: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(InputError) as refused:
        run(*arguments, **options)
    return refused.value.problems


def texts(folder: Path, *lengths: int) -> str:
    """Classified ones of so many words, the longest of which decides."""
    lines = [{"text": "fur " * length, "topic": "ab"[index % 2]} for index, length in enumerate(lengths)]
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "config", "limit"),
    # RoBERTa's positions start after its padding token's id, which is 0 here.
    [(BertModel, BertConfig, 12), (RobertaModel, RobertaConfig, 11)],
)
def test_an_example_with_more_tokens_than_the_model_has_positions_is_reported(
    tmp_path: Path, kind: Any, config: Any, limit: int
):
    model = save_model(tmp_path / "model", kind, tiny_config(config, max_position_embeddings=12))
    task = "sequence-classification"
    shared: dict[str, Any] = {"clients": 1, "eval_examples": 0, "max_length": 64}
    run(model, task, tmp_path, path=texts(tmp_path, 3, limit), **shared)
    ((option, message),) = refusal(model, task, tmp_path, path=texts(tmp_path, 3, limit + 1), **shared)
    assert option == "data.max_length" and re.search(rf"\b{limit + 1} tokens\b.*\b{limit}\b", message)
    run(model, task, tmp_path, path=texts(tmp_path, 3, 40), **{**shared, "max_length": limit})
    base = kind.from_pretrained(model)
    base(input_ids=torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        base(input_ids=torch.full((1, limit + 1), 5))


def test_a_decoders_positions_count_too(tmp_path: Path):
    config = BartConfig(
        vocab_size=len(TOKENIZER),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=12,
        pad_token_id=TOKENIZER.pad_token_id,
        eos_token_id=TOKENIZER.eos_token_id,
    )
    model = save_model(tmp_path / "bart", BartForConditionalGeneration, config)
    path = texts(tmp_path, 3, 20)
    shared = {"path": path, "clients": 1, "eval_examples": 0, "max_length": 64, "text": None, "label": None}
    ((option, message),) = refusal(model, "seq2seq-lm", tmp_path, prompt="a kind", answer="{text}", **shared)
    assert option == "data.max_length" and re.search(r"\b21\b.*\b12\b", message)


def test_a_tokenizer_with_more_tokens_than_the_model_is_reported(tmp_path: Path):
    config = tiny_config(LlamaConfig, vocab_size=10, num_key_value_heads=2)
    model = save_model(tmp_path / "llama", LlamaForCausalLM, config)
    largest = int(max(TOKENIZER("fur")["input_ids"]))
    shared = {"path": texts(tmp_path, 3, 4), "clients": 1, "eval_examples": 0, "prompt": None, "answer": None}
    ((option, message),) = refusal(model, "causal-lm", tmp_path, text="{text}", **shared)
    assert option == "model.name_or_path" and re.search(rf"\b{largest}\b.*\b10\b", message)


MODELS: dict[str, tuple[str, Any]] = {
    "llama": (
        "causal-lm",
        lambda to: save_model(to, LlamaForCausalLM, tiny_config(LlamaConfig, num_key_value_heads=2)),
    ),
    "gpt2": ("causal-lm", lambda to: save_model(to, GPT2LMHeadModel, tiny_config(GPT2Config))),
    "mixtral": ("causal-lm", lambda to: save_model(to, MixtralForCausalLM, mixtral())),
    "bert": ("sequence-classification", lambda to: save_model(to, BertModel, tiny_config(BertConfig))),
    "t5": ("seq2seq-lm", write_t5),
    "vit": ("image-classification", write_vit),
}


def mixtral() -> Any:
    return tiny_config(MixtralConfig, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mixtral"])  # of which PEFT takes experts, too
def test_all_linear_selects_the_same_modules_as_in_peft(tmp_path: Path, name: str):
    kind, make = MODELS[name]

    def task() -> Any:
        found = find_task(model_spec(tmp_path, kind, name_or_path=str(tmp_path / name)), CPU)
        found.labels = ["a", "b", "c"]
        return found

    make(tmp_path / name)
    ours = add_adapters(task().build_model(), task(), replace(LORA, target_modules="all-linear"))
    config = LoraConfig(
        r=2, target_modules="all-linear", modules_to_save=list(task().heads) or None, task_type=task().peft_type
    )
    theirs = get_peft_model(task().build_model(), config)
    taken = {
        name.removeprefix("base_model.model.") for name, layer in theirs.named_modules() if isinstance(layer, LoraLayer)
    }
    assert {module.shape.name for module in ours.modules} == taken and taken


@pytest.mark.parametrize("name", MODELS)
def test_shapes_on_the_meta_device_equal_the_loaded_ones(tmp_path: Path, name: str):
    kind, make = MODELS[name]
    task: Any = find_task(model_spec(make(tmp_path / name), kind, name_or_path=str(tmp_path / name)), CPU)
    task.labels = ["a", "b", "c"]
    seen, read = add_adapters(task.build_model(on_meta=True), task, LORA), add_adapters(task.build_model(), task, LORA)
    assert [module.shape for module in seen.modules] == [module.shape for module in read.modules]
    assert seen.dense_shapes == read.dense_shapes
    assert all(value.is_meta for value in seen.model.parameters())


def test_weights_without_an_adapter_are_reported_including_experts(tiny: Path, tmp_path: Path):
    folder = MODELS["mixtral"][1](tmp_path / "mixtral")
    model = model_spec(tiny, "causal-lm", name_or_path=str(folder))
    up = come_up(model, replace(LORA, target_modules="all-linear"), data_spec(tiny, "causal-lm"), tmp_path / "cache")
    told = {entry.name: (entry.kind, entry.count, entry.parameters) for entry in up.loaded.left_out}
    base: Any = MixtralForCausalLM.from_pretrained(folder)
    experts = base.model.layers[0].mlp.experts
    assert told["model.layers.*.mlp.experts.gate_up_proj"] == ("MixtralExperts", 2, 2 * experts.gate_up_proj.numel())
    assert told["model.layers.*.mlp.experts.down_proj"] == ("MixtralExperts", 2, 2 * experts.down_proj.numel())
    assert told["model.layers.*.mlp.gate"] == ("MixtralTopKRouter", 2, 2 * 4 * 32)
    assert told["model.embed_tokens"] == ("Embedding", 1, len(TOKENIZER) * 32)
    assert "lm_head" in told
    assert not any("_proj" in name and "experts" not in name for name in told)
    # Nothing is counted twice, nothing is left out of both.
    adapted = sum(module.in_ * module.out for module in up.loaded.modules)
    vectors = sum(value.numel() for value in base.parameters() if value.dim() < 2)
    assert adapted + vectors + sum(parameters for _, _, parameters in told.values()) == up.loaded.n_parameters


def test_modules_trained_in_full_or_adapted_are_not_reported_as_left_out(tiny: Path, tmp_path: Path):
    lora = replace(LORA, target_modules=["q_proj"], modules_to_save=["lm_head"])
    up = come_up(model_spec(tiny, "causal-lm"), lora, data_spec(tiny, "causal-lm"), tmp_path)
    told = {entry.name: entry.count for entry in up.loaded.left_out}
    projections = {f"model.layers.*.self_attn.{name}_proj": 2 for name in "kvo"}
    feed_forward = {f"model.layers.*.mlp.{name}_proj": 2 for name in ("gate", "up", "down")}
    assert told == {**projections, **feed_forward, "model.embed_tokens": 1}
    assert up.loaded.modules_to_save == ["lm_head"]


def test_a_module_that_shares_its_weight_is_not_trained_in_full(tmp_path: Path):
    model = MODELS["gpt2"][1](tmp_path / "gpt2")
    shared = {"path": texts(tmp_path, 3, 4), "clients": 1, "eval_examples": 0, "prompt": None, "answer": None}
    for name in ("lm_head", "wte"):
        ((option, message),) = refusal(
            model, "causal-lm", tmp_path, replace(LORA, modules_to_save=[name]), text="{text}", **shared
        )
        assert option == "lora.modules_to_save"
        assert "transformer.wte and lm_head" in message
    run(model, "causal-lm", tmp_path, replace(LORA, modules_to_save=["ln_f"]), text="{text}", **shared)


def test_target_modules_are_required_when_peft_has_no_default(tiny: Path, tmp_path: Path):
    chosen = come_up(
        model_spec(tiny, "causal-lm"), replace(LORA, target_modules=None), data_spec(tiny, "causal-lm"), tmp_path
    )
    assert {module.name.rpartition(".")[2] for module in chosen.loaded.modules} == {"q_proj", "v_proj"}
    task: Any = find_task(model_spec(write_vit(tmp_path / "vit"), "image-classification"), CPU)
    task.model = replace(task.model, name_or_path=str(tmp_path / "vit"))
    task.labels = ["a", "b"]
    with pytest.raises(InputError, match=r"\bViTForImageClassification\b.*all-linear"):
        add_adapters(task.build_model(), task, replace(LORA, target_modules=None))


def test_the_model_uses_the_requested_attention(tiny: Path, tmp_path: Path):
    for attention in ("eager", "sdpa"):
        model = model_spec(tiny, "causal-lm", attention=attention)
        up = come_up(model, LORA, data_spec(tiny, "causal-lm"), tmp_path)
        base: Any = up.nested.model.get_base_model()
        assert base.config._attn_implementation == attention


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantised_weights_on_a_cpu_are_refused_before_loading(tiny: Path, tmp_path: Path, quantization: str):
    model = model_spec(tiny, "causal-lm", quantization=quantization)
    message = Prepare("p", 1, SEED, model, LORA, data_spec(tiny, "causal-lm"), str(tmp_path))
    with pytest.raises(InputError, match=rf"\b{quantization}\b.*\bCUDA\b.*\bcpu\b") as refused:
        prepare(message, CPU, quiet)
    assert [option for option, _ in refused.value.problems] == ["model.quantization"]


@pytest.mark.parametrize(
    ("name", "kind", "spared", "kept"),
    [
        ("llama", AutoModelForCausalLM, [], ["lm_head"]),
        ("gpt2", AutoModelForCausalLM, ["ln_f"], ["transformer.ln_f", "lm_head"]),
        ("llama", AutoModelForSequenceClassification, ["classifier", "score"], ["score"]),
        ("bert", AutoModelForSequenceClassification, ["classifier", "score"], ["classifier"]),
        ("bert", AutoModel, ["pooler"], ["pooler"]),
        ("t5", AutoModelForSeq2SeqLM, [], ["lm_head"]),
    ],
)
def test_modules_trained_in_full_and_the_output_layer_are_not_quantised(
    tmp_path: Path, name: str, kind: Any, spared: list[str], kept: list[str]
):
    folder = MODELS[name][1](tmp_path / name)
    model = model_spec(folder, MODELS[name][0], name_or_path=str(folder))
    assert _kept_whole(kind, model, AutoConfig.from_pretrained(folder), spared) == kept


def test_two_4_bit_weights_count_from_one_byte():
    class Params4bit(nn.Parameter):
        """As bitsandbytes calls it."""

    packed = Params4bit(torch.zeros(512, 1, dtype=torch.uint8), requires_grad=False)
    assert n_weights(packed) == 1024
    assert n_weights(nn.Parameter(torch.zeros(3, 4))) == 12
