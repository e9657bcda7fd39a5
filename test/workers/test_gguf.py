"""A tiny Llama is written as GGUF, with q and k in its own order of rows, and comes back as transformers loads it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from controller import worker_environment
from gguf import GGMLQuantizationType, GGUFWriter
from prelort_worker.errors import InputError
from prelort_worker.files.file_hashes import file_sha256
from prelort_worker.gguf import convert, main
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

HEADS = 2
HIDDEN = 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# "Ġ" is a space and "Ċ" the end of a line.
MERGES = ["a b", "Ġ Ġ", "Ċ Ċ", "1 2"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
CHAT = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"

PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=HIDDEN,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(path: Path, model: Any, *, pre: str | None = "smollm", without: str = "", rounded: str = "") -> Path:
    """A name of GGUF's in `without` is left out; weights that have `rounded` in their name are stored as Q4_1."""
    writer = GGUFWriter(path, "llama")
    config = model.config
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    for name, weight in _gguf_weights(model).items():
        values = weight.detach().numpy()
        if name == without:
            continue
        if rounded and rounded in name:
            kind = GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_weights(model: Any) -> dict[str, Tensor]:
    state = model.state_dict()
    weights = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
    }
    for own, theirs in PARTS.items():
        weight = state[f"model.layers.0.{own}.weight"]
        if theirs in ("attn_q", "attn_k"):
            weight = _interleave(weight, HEADS if theirs == "attn_q" else 1)
        weights[f"blk.0.{theirs}.weight"] = weight
    return weights


def _interleave(weight: Tensor, heads: int) -> Tensor:
    """Rotary pairs side by side, as GGUF has them; transformers has the first of all pairs, then the second."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()


def load(folder: Path) -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    model, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model.eval()


def test_the_weights_are_read_back_and_the_folder_records_its_source(model, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    convert(file, tmp_path / "made", torch.float32)
    made = load(tmp_path / "made")
    for name, weight in model.state_dict().items():
        assert torch.equal(made.state_dict()[name], weight), name
    assert made.config.max_position_embeddings == 32
    assert not hasattr(made.config, "quantization_config")
    record = json.loads((tmp_path / "made/prelort.json").read_text())
    assert (record["source"], record["source_sha256"]) == ("tiny.gguf", file_sha256(file))
    assert (record["tensors"], record["dtype"]) == ({"F32": 11}, "float32")
    assert record["parameters"] == model.num_parameters()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "tiny.gguf"]


def test_four_bit_weights_are_read_back_as_rounded(model, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model, rounded="attn_v")
    convert(file, tmp_path / "exact", torch.float32)
    convert(file, tmp_path / "half")
    name = "model.layers.0.self_attn.v_proj.weight"
    values = model.state_dict()[name].numpy()
    kind = GGMLQuantizationType.Q4_1
    rounded = torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind))
    assert not np.array_equal(rounded, values)
    assert torch.equal(load(tmp_path / "exact").state_dict()[name], rounded)
    assert torch.equal(load(tmp_path / "half").state_dict()[name], rounded.bfloat16().float())
    assert json.loads((tmp_path / "half/prelort.json").read_text())["tensors"] == {"F32": 10, "Q4_1": 1}


def test_the_tokenizer_has_the_files_special_tokens_and_chat_template(model, tmp_path):
    convert(write_gguf(tmp_path / "tiny.gguf", model), tmp_path / "made")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert len(tokenizer) == len(TOKENS)
    ids = (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ids == (0, 1, 2, 2)
    assert tokenizer.model_max_length == 32
    assert tokenizer("<|im_start|>ab<|im_end|>")["input_ids"] == [1, TOKENS.index("ab"), 2]
    assert tokenizer.decode([1, TOKENS.index("ab"), 2], skip_special_tokens=True) == "ab"
    messages = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>ab<|im_end|>"
    for text in ("naïve — 日本語 🙂", "  a\t12\r\n\n b", "''s"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_pre_tokenizer_that_splits_digits_keeps_the_space_before_them_separate(model, tmp_path):
    def split(pre: str, text: str) -> list[str]:
        file = write_gguf(tmp_path / f"{pre}.gguf", model, pre=pre)
        if not (tmp_path / pre).exists():
            convert(file, tmp_path / pre)
        tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / pre)
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    assert split("smollm", "a12") == ["a", "1", "2"]
    assert split("smollm", "  1") == ["ĠĠ", "1"]
    assert split("smollm", "\n\n1") == ["ĊĊ", "1"]
    assert split("gpt-2", "a12") == ["a", "12"]
    assert split("gpt-2", "  1") == ["Ġ", "Ġ", "1"]
    # Transformers' own, which goes otherwise than GPT-2's.
    assert split("qwen2", "a12") == ["a", "1", "2"]


@pytest.mark.parametrize(
    ("pre", "said"), [("deepseek-coder", "deepseek-coder"), ("default", "default"), (None, "an unnamed method")]
)
def test_an_unknown_pre_tokenizer_is_refused_and_leaves_nothing(pre, said, model, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model, pre=pre)
    with pytest.raises(InputError, match=rf"tokenizer .*\b{said}\b"):
        convert(file, tmp_path / "made")
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_weight_another_file_format_and_a_folder_in_use_are_refused(model, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model, without="blk.0.attn_v.weight")
    with pytest.raises(InputError, match=r"model\.layers\.0\.self_attn\.v_proj\.weight"):
        convert(file, tmp_path / "made")
    file.write_text("no model at all, but long enough to be one" * 4)
    with pytest.raises(InputError, match="expected a GGUF file"):
        convert(file, tmp_path / "made")
    with pytest.raises(InputError, match="expected a GGUF file"):
        convert(tmp_path / "absent.gguf", tmp_path / "made")
    with pytest.raises(InputError, match="expected a folder"):
        convert(file, tmp_path)
    assert list(tmp_path.iterdir()) == [file]


def test_as_a_program_it_fills_an_empty_folder(model, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model)
    (tmp_path / "made").mkdir()
    command = [sys.executable, "-m", "prelort_worker.gguf", str(file), str(tmp_path / "made")]
    subprocess.run(command, check=True, env=worker_environment())
    assert load(tmp_path / "made").num_parameters() == model.num_parameters()


def test_as_a_program_it_prints_only_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gguf", str(tmp_path / "absent.gguf"), str(tmp_path / "made")])
    with pytest.raises(SystemExit, match=r"^error: .*absent\.gguf: expected a GGUF file"):
        main()
