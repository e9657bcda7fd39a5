"""Base models and tokenizers, from a folder or by their Hugging Face name."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .messages import LoraSpec, ModelSpec
from .seeds import derive

_HEADS = ("classifier", "score")


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """A tokenizer without a padding token pads with its end-of-text token: padding is masked and never a target."""
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"the tokenizer of {name_or_path} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(model: ModelSpec, lora: LoraSpec, labels: list[str], pad_token_id: int, seed: str) -> PreTrainedModel:
    """
    The base model in float32 on the CPU. A new task head is drawn from `seed`, so every worker has the same.
    Any other parameter that the checkpoint lacks is refused: it would be random and, being frozen, stay so.
    """
    torch.manual_seed(derive(seed, "new parameters"))
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    if model.task == "causal-lm":
        loaded: Any = AutoModelForCausalLM.from_pretrained(model.name_or_path, **options)
    else:
        names = dict(enumerate(labels))
        loaded = AutoModelForSequenceClassification.from_pretrained(
            model.name_or_path,
            num_labels=len(labels),
            id2label=names,
            label2id={label: number for number, label in names.items()},
            **options,
        )
    base, info = loaded
    _refuse_random(model, lora, sorted(info["missing_keys"]))
    # A decoder finds the token that a classifier reads by what is not padding.
    base.config.get_text_config().pad_token_id = pad_token_id
    return base


def _refuse_random(model: ModelSpec, lora: LoraSpec, missing: list[str]) -> None:
    trained = (*lora.modules_to_save, *(_HEADS if model.task == "sequence-classification" else ()))
    frozen = [name for name in missing if not any(module.endswith(trained) for module in _modules_around(name))]
    if frozen:
        raise ValueError(
            f"the checkpoint {model.name_or_path} lacks {', '.join(frozen)}, which {model.task} needs: they would be "
            "random and frozen. Name their module in lora.modules_to_save, or take another checkpoint"
        )


def _modules_around(parameter: str) -> list[str]:
    """`a.b.weight` lies in the modules `a` and `a.b`."""
    parts = parameter.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
