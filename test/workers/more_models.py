"""Tiny models of other architectures than those of tiny.py, with its tokenizer, or pictures for it."""

from pathlib import Path
from typing import Any

import torch
from tiny import GLUE, TOPICS, build_tokenizer
from transformers import PreTrainedConfig, PreTrainedModel

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
    """Of the names that Llama, BERT and their like have."""
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
