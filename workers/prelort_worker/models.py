"""Base models and tokenizers, from a folder or by their Hugging Face name."""

import logging
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from .errors import InputError
from .wire.specs import ModelSpec

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class MeanPooledClassifier(PreTrainedModel):
    """
    An encoder, mean pooling over its tokens, and a linear head: for a checkpoint whose pooler was never trained, such
    as a sentence embedder's (sentence-transformers pools by the mean, ignoring padding). Logits [batch, labels].

    A saved adapter is loaded onto it by `PeftModel.from_pretrained(MeanPooledClassifier.from_encoder(folder, 26), …)`,
    and what was saved whole by `MeanPooledClassifier.from_pretrained(folder)`.
    """

    # transformers asks the encoder itself.
    _supports_sdpa = _supports_flash_attn = supports_gradient_checkpointing = True

    def __init__(self, config: PreTrainedConfig, encoder: PreTrainedModel | None = None) -> None:
        """Wraps an encoder, or a new one of that configuration whose weights are loaded afterwards."""
        super().__init__(config)
        self.encoder: PreTrainedModel = AutoModel.from_config(config) if encoder is None else encoder
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None  # pyright: ignore[reportArgumentType]
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)
        nn.init.normal_(self.classifier.weight, std=0.02)  # as transformers initialises a new head
        nn.init.zeros_(self.classifier.bias)
        if encoder is None:  # with an encoder, it would initialise the head again
            self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "MeanPooledClassifier":
        """Loads a folder that `save_pretrained` wrote, as `prelort export --merge` does."""
        kwargs.setdefault("config", AutoConfig.from_pretrained(args[0]))
        return super().from_pretrained(*args, **kwargs)

    @classmethod
    def from_encoder(cls, name_or_path: str, num_labels: int) -> "MeanPooledClassifier":
        """Loads an encoder by folder or Hugging Face name; its head is new, for PEFT to fill."""
        spec = ModelSpec(name_or_path, None, "sequence-classification", None, "mean", "f32", None, None, False)
        return cls.load(spec, torch.device("cpu"), num_labels=num_labels)

    @classmethod
    def load(
        cls, model: ModelSpec, device: torch.device, on_meta: bool = False, **config: Any
    ) -> "MeanPooledClassifier":
        encoder = load_pretrained(AutoModel, model, device, on_meta, ["pooler"], **config)
        with torch.device("meta" if on_meta else "cpu"):  # so that the head is the same on every device
            made = cls(encoder.config, encoder)
        made.classifier.to(encoder.device)  # a quantised encoder is already on its device
        return made

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """Takes tokens [batch, length] and their mask; ignores whatever else PEFT passes to a classifier."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.classifier((hidden * mask).sum(1) / mask.sum(1))
        return SequenceClassifierOutput(logits=logits)


def load_tokenizer(model: ModelSpec) -> PreTrainedTokenizerBase:
    """A tokenizer without a padding token pads with its end-of-text token: padding is masked and never a target."""
    with found(model):
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, **_source(model))
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"the tokenizer of {model.name_or_path} has neither a padding nor an end-of-text token; name "
                "one of its tokens as pad_token in its tokenizer_config.json",
                "model.name_or_path",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_pretrained(
    kind: Any,
    model: ModelSpec,
    device: torch.device,
    on_meta: bool = False,
    spared: Collection[str] = (),
    **config: Any,
) -> PreTrainedModel:
    """
    A model of an Auto class by folder or Hugging Face name; `config` overrides its configuration, id2label for one.
    Refuses a checkpoint that lacks parameters, which would be random and frozen, except in modules that are trained in
    full or not used: their names end in one of `spared`. On the meta device only shapes are read.
    """
    attention = {} if model.attention is None else {"attn_implementation": model.attention}
    with found(model):
        settings: PreTrainedConfig = AutoConfig.from_pretrained(model.name_or_path, **_source(model), **config)
        attention = {} if model.attention is None else {"attn_implementation": model.attention}
        if on_meta:
            with torch.device("meta"):
                return kind.from_config(settings, trust_remote_code=model.trust_remote_code, **attention)
        loaded: Any = kind.from_pretrained(
            model.name_or_path,
            config=settings,
            dtype=_DTYPES[model.dtype],
            use_safetensors=True,
            output_loading_info=True,
            **attention,
            **_quantised(model, device, lambda: _kept_whole(kind, model, settings, spared)),
            **_source(model),
        )
    base, info = loaded
    _refuse_random(model.name_or_path, info["missing_keys"], spared)
    return base


def refuse_quantisation(model: ModelSpec, device: torch.device) -> None:
    """Raises InputError where quantisation is impossible, before anything is loaded."""
    if model.quantization is None:
        return
    if device.type != "cuda":
        raise InputError(
            f"{model.quantization} weights need a CUDA device, which bitsandbytes computes on, but this worker has "
            f"{device.type}; leave it out, or use model.dtype bf16",
            "model.quantization",
        )
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "the package bitsandbytes is missing; install it into the worker's environment: pip install bitsandbytes",
            "model.quantization",
        )


@contextmanager
def found(model: ModelSpec) -> Iterator[None]:
    """Turns what transformers raises for an unusable name, folder or setting into an InputError."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:600]
        if model.attention is not None and re.search("attention|kernels", reason, re.IGNORECASE):
            raise InputError(f"{model.attention}: {reason}", "model.attention") from error
        if isinstance(error, OSError):
            folder = Path(model.name_or_path).absolute()
            taken = (
                ""
                if folder.is_dir()
                else f"{folder} is not a folder, so it was treated as a name on the Hugging Face hub; "
            )
            raise InputError(
                f"{taken}{model.name_or_path}: expected a folder with a model and its tokenizer, or the name of a "
                f"model on the Hugging Face hub; {reason}",
                "model.name_or_path",
            ) from error
        raise InputError(
            f"{model.name_or_path} cannot be used for {model.task}: {reason}", "model.name_or_path"
        ) from error


def _source(model: ModelSpec) -> dict[str, Any]:
    return {"revision": model.revision or "main", "trust_remote_code": model.trust_remote_code}


def _quantised(model: ModelSpec, device: torch.device, kept_whole: Callable[[], list[str]]) -> dict[str, Any]:
    if model.quantization is None:
        return {}
    # It would warn at every product of every step that inputs are rounded to f16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    kept = kept_whole()
    settings = (
        BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
        if model.quantization == "8bit"
        else BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=kept,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def _kept_whole(kind: Any, model: ModelSpec, settings: PreTrainedConfig, spared: Collection[str]) -> list[str]:
    """Names of the modules that stay unquantised: those trained in full, and the output layer."""
    with torch.device("meta"):
        base = kind.from_config(deepcopy(settings), trust_remote_code=model.trust_remote_code)
    head = base.get_output_embeddings()
    return [
        name
        for name, module in base.named_modules()
        if (head is not None and module is head) or (name and name.endswith(tuple(spared)))
    ]


def _refuse_random(name_or_path: str, missing: Collection[str], spared: Collection[str]) -> None:
    """Refuses a checkpoint that lacks parameters, except those of modules that are trained or not used."""
    frozen = [
        name for name in sorted(missing) if not any(part.endswith(tuple(spared)) for part in _modules_around(name))
    ]
    if frozen:
        raise InputError(
            f"the checkpoint {name_or_path} lacks {', '.join(frozen)}, which this task needs: they would be random and "
            "frozen. Name their module in lora.modules_to_save, or use another checkpoint",
            "model.name_or_path",
        )


def _modules_around(parameter: str) -> list[str]:
    """`a.b.weight` lies in the modules `a` and `a.b`."""
    parts = parameter.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
