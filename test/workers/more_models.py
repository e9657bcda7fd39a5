"""Tiny models of other architectures than those of tiny.py, with its tokenizer, or pictures for it."""

import json
from pathlib import Path
from typing import Any

import torch
from tiny import GLUE, TOPICS, build_tokenizer
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

ROLES = ["system", "user", "assistant"]
TOKENIZER: Any = build_tokenizer([*GLUE, *ROLES, *(word for words in TOPICS.values() for word in words)])
# Each turn is "ROLE : CONTENT </s>".
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }} : {{ message.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def save_model(folder: Path, kind: type[PreTrainedModel], config: PreTrainedConfig, tokenizer: Any = TOKENIZER) -> Path:
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(kind: type[PreTrainedConfig], **changes: Any) -> Any:
    """A tiny config, by option names that Llama, BERT and similar architectures share."""
    sizes = {
        "vocab_size": len(TOKENIZER),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": TOKENIZER.pad_token_id,
        "eos_token_id": TOKENIZER.eos_token_id,
        "bos_token_id": TOKENIZER.bos_token_id,
    }
    return kind(**{**sizes, **changes})


def write_t5(folder: Path) -> Path:
    config: Any = T5Config(
        vocab_size=len(TOKENIZER),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=TOKENIZER.pad_token_id,
        eos_token_id=TOKENIZER.eos_token_id,
    )
    config.decoder_start_token_id = TOKENIZER.pad_token_id
    return save_model(folder, T5ForConditionalGeneration, config)


def write_vit(folder: Path) -> Path:
    """For pictures of 16 × 16, with four patches each."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ViTImageProcessor",
                "size": {"height": 16, "width": 16},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            }
        )
    )
    return folder
