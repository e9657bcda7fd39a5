"""Base models and tokenizers, from a folder or by their Hugging Face name."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from .errors import InputError
from .messages import LoraSpec, ModelSpec
from .seeds import derive

_HEADS = ("classifier", "score")
_SAFE: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class MeanPooledClassifier(PreTrainedModel):
    """
    An encoder, the mean over its tokens, a linear head: for a checkpoint whose own pooler was not trained, as those
    of sentence embedders are not (sentence-transformers pools by mean, padding left out). Logits [batch, labels].

    A saved adapter is loaded onto it by `PeftModel.from_pretrained(MeanPooledClassifier.from_encoder(folder, 26), …)`.
    """

    # The encoder is asked by itself.
    _supports_sdpa = _supports_flash_attn = supports_gradient_checkpointing = True

    def __init__(self, encoder: PreTrainedModel, num_labels: int) -> None:
        super().__init__(encoder.config)
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.config.hidden_size, num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)  # as transformers draws a new head
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def from_encoder(
        cls, name_or_path: str, num_labels: int, dtype: torch.dtype = torch.float32, **config: Any
    ) -> "MeanPooledClassifier":
        """Loads an encoder by folder or Hugging Face name; `config` overrides its configuration, id2label for one."""
        with _found(name_or_path):
            settings = AutoConfig.from_pretrained(
                name_or_path, trust_remote_code=False, num_labels=num_labels, **config
            )
            loaded: Any = AutoModel.from_pretrained(
                name_or_path, config=settings, dtype=dtype, output_loading_info=True, **_SAFE
            )
        encoder, info = loaded
        _refuse_random(name_or_path, info["missing_keys"], spared=["pooler"])
        if hasattr(encoder, "pooler"):
            encoder.pooler = None
        return cls(encoder, num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """PEFT passes all that a classifier may be given; all but tokens [batch, length] and their mask is left out."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.classifier((hidden * mask).sum(1) / mask.sum(1))
        return SequenceClassifierOutput(logits=logits)


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """A tokenizer without a padding token pads with its end-of-text token: padding is masked and never a target."""
    with _found(name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(f"the tokenizer of {name_or_path} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(model: ModelSpec, lora: LoraSpec, labels: list[str], pad_token_id: int, seed: str) -> PreTrainedModel:
    """
    The base model on the CPU. A new task head is drawn from `seed`, so every worker has the same.
    Any other parameter that the checkpoint lacks is refused: it would be random and, being frozen, stay so.
    """
    torch.manual_seed(derive(seed, "new parameters"))
    dtype = _DTYPES[model.dtype]
    names = dict(enumerate(labels))
    label_names = {
        "num_labels": len(labels),
        "id2label": names,
        "label2id": {name: place for place, name in names.items()},
    }
    if model.pooling == "mean":
        base: PreTrainedModel = MeanPooledClassifier.from_encoder(model.name_or_path, dtype=dtype, **label_names)
    else:
        kind, config = (
            (AutoModelForCausalLM, {})
            if model.task == "causal-lm"
            else (AutoModelForSequenceClassification, label_names)
        )
        with _found(model.name_or_path):
            loaded: Any = kind.from_pretrained(
                model.name_or_path, dtype=dtype, output_loading_info=True, **config, **_SAFE
            )
        base, info = loaded
        heads = _HEADS if model.task == "sequence-classification" else ()
        _refuse_random(model.name_or_path, info["missing_keys"], spared=[*lora.modules_to_save, *heads])
    # A decoder finds the token that a classifier reads by what is not padding.
    base.config.get_text_config().pad_token_id = pad_token_id
    base.config.get_text_config().use_cache = False  # of no use to training; generation asks for it itself
    return base


@contextmanager
def _found(name_or_path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # what transformers raises for a name or folder that holds no model
        reason = " ".join(str(error).split())
        raise InputError(
            f"model.name_or_path {name_or_path}: expected a folder with a model and its tokenizer, or a name that the "
            f"Hugging Face hub knows; {reason}"
        ) from error


def _refuse_random(name_or_path: str, missing: Collection[str], spared: Sequence[str]) -> None:
    """Refuses parameters that the checkpoint lacks, but for those of modules that are trained, or not used."""
    frozen = [
        name for name in sorted(missing) if not any(part.endswith(tuple(spared)) for part in _modules_around(name))
    ]
    if frozen:
        raise InputError(
            f"the checkpoint {name_or_path} lacks {', '.join(frozen)}, which this task needs: they would be random and "
            "frozen. Name their module in lora.modules_to_save, or take another checkpoint"
        )


def _modules_around(parameter: str) -> list[str]:
    """`a.b.weight` lies in the modules `a` and `a.b`."""
    parts = parameter.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
