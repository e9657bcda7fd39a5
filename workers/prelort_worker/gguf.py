"""
Makes the folder of a model, as transformers loads it, from a GGUF file. Once: reading a GGUF takes many times as long.

    python -m prelort_worker.gguf MODEL.gguf FOLDER [--dtype f32]

Quantized weights keep their rounding error: they get another type, not more precision.
"""

import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging
from transformers.utils.quantization_config import GgufConfig

from .errors import InputError
from .files.file_hashes import file_sha256

_DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}

# Where transformers has no pre-tokenizer for a byte-level vocabulary it silently uses GPT-2's. According to llama.cpp's
# src/llama-vocab.cpp that is right for the first set; the second splits digits first, then as GPT-2 does.
_AS_GPT2 = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "modern-bert"}
_DIGITS_FIRST = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def main() -> None:
    parser = ArgumentParser(prog="prelort_worker.gguf")
    parser.add_argument("file", type=Path, help="the GGUF file of a causal language model")
    parser.add_argument("folder", type=Path, help="the folder to make")
    parser.add_argument("--dtype", choices=_DTYPES, default="bf16", help="of the weights that are written")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    try:
        convert(arguments.file, arguments.folder, _DTYPES[arguments.dtype])
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def convert(file: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Creates `out` atomically. Its prelort.json records the source."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: expected a folder that does not exist yet, or an empty one")
    reader = _read(file)
    tokenizer = _load_tokenizer(file, reader)
    model = _load_model(file, dtype)
    tokenizer.model_max_length = model.config.max_position_embeddings
    record = {
        "source": file.name,
        "source_sha256": file_sha256(file),
        "tensors": Counter(tensor.tensor_type.name for tensor in reader.tensors),
        "parameters": model.num_parameters(),
        "dtype": str(dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "gguf")},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="partial-", dir=out.parent))
    try:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "prelort.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _load_tokenizer(file: Path, reader: GGUFReader) -> PreTrainedTokenizerBase:
    """The tokenizer that a GGUF describes; refuses one with an unknown pre-tokenizer."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise InputError(f"{file}: its tokenizer cannot be read: {error}") from error
    backend = tokenizer.backend_tokenizer
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        split = reader.get_field("tokenizer.ggml.pre")
        name = "" if split is None else split.contents()
        if name in _DIGITS_FIRST:
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
        elif name not in _AS_GPT2:
            raise InputError(
                f"{file}: its tokenizer splits text with {name or 'an unnamed method'}, which prelort does not "
                "support: another method would give other tokens than the model was trained on. Use the model's "
                "original folder instead"
            )
    return tokenizer


def _load_model(file: Path, dtype: torch.dtype) -> Any:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except (ValueError, KeyError) as error:
        raise InputError(f"{file}: transformers cannot load it as a causal language model: {error}") from error
    model, info = loaded
    if info["missing_keys"]:
        raise InputError(
            f"{file}: lacks {', '.join(sorted(info['missing_keys']))}, which would be initialised at random"
        )
    return model


def _read(file: Path) -> GGUFReader:
    try:
        return GGUFReader(file)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{file}: expected a GGUF file; {error}") from error


if __name__ == "__main__":
    main()
