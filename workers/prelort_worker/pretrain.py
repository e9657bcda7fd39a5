"""
Pretrains a small causal language model from scratch, for comparisons that need a base model but no hub:

    python -m prelort_worker.pretrain --architecture llama --text A.txt B.txt --out FOLDER

The same text gives the same model, bit for bit on one kind of machine: the seed is fixed, and the budget is in tokens,
not in time. The model is as good as its size allows: it has learnt the form of English and definitions, but few facts.
"""

import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import cos, exp, pi
from pathlib import Path
from time import monotonic
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from .errors import InputError
from .files.file_hashes import file_sha256
from .training.steps import endless_batches

Architecture: TypeAlias = Literal["llama", "gpt2"]


@dataclass(frozen=True)
class Settings:
    # Upper bound; a short text gives fewer tokens.
    vocabulary: int = 2048
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    # The model's positions, and the length of training windows.
    positions: int = 128
    # Tokens to train on; the text is repeated as often as that takes.
    tokens: int = 4_000_000
    batch_size: int = 16
    lr: float = 4e-3
    # Fraction of the steps in which lr rises; then it decays along a cosine to a tenth.
    warm_up: float = 0.05
    weight_decay: float = 0.1
    # One line in this many is held out for the perplexity.
    held_out_every: int = 100
    seed: int = 0
    # Determines the order of sums, and so the bytes.
    threads: int = 2


_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
Say: TypeAlias = Callable[[str], None]


def main() -> None:
    parser = ArgumentParser(prog="prelort_worker.pretrain")
    parser.add_argument("--architecture", choices=get_args(Architecture), required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="UTF-8, one sentence or paragraph per line")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    try:
        pretrain(arguments.architecture, arguments.text, arguments.out, Settings(), _to_stderr)
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def pretrain(architecture: Architecture, text: Sequence[Path], out: Path, settings: Settings, say: Say) -> None:
    """Creates `out` atomically, in the format of transformers, with a record in prelort.json."""
    if out.exists():
        raise InputError(f"--out {out}: expected a folder that does not exist yet")
    training, held_out = _split(text, settings)
    say(f"training a tokenizer on {len(training)} lines")
    tokenizer = train_tokenizer(training, settings)
    windows, kept = (pack(lines, tokenizer, settings.positions) for lines in (training, held_out))
    model, perplexity = _train(architecture, len(tokenizer), windows, kept, settings, say)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="partial-", dir=out.parent))
    try:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        made = ("model.safetensors", "tokenizer.json")
        record = {
            "architecture": architecture,
            "settings": asdict(settings),
            "parameters": model.num_parameters(),
            "held_out_perplexity": perplexity,
            "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
            "text_sha256": [file_sha256(path) for path in text],
            "sha256": {name: file_sha256(aside / name) for name in made},
        }
        (aside / "prelort.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        aside.chmod(0o755)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def train_tokenizer(lines: list[str], settings: Settings) -> PreTrainedTokenizerFast:
    """Byte-level BPE, without unknown tokens. A text starts with <s>; in training </s> ends it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    bos = _SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=settings.positions, **_SPECIAL)


def pack(lines: list[str], tokenizer: PreTrainedTokenizerFast, length: int) -> Tensor:
    """[windows, length + 1]: all lines concatenated and cut; a window's last token is the next one's first."""
    eos = tokenizer.eos_token_id
    stream = [token for line in tokenizer.backend_tokenizer.encode_batch(lines) for token in (*line.ids, eos)]
    n = (len(stream) - 1) // length
    if n < 1:
        raise InputError(f"the text is too short: {len(stream)} tokens, expected more than {length}")
    tokens = torch.tensor(stream[: n * length + 1])
    return torch.stack([tokens[start : start + length + 1] for start in range(0, n * length, length)])


def _split(paths: Sequence[Path], settings: Settings) -> tuple[list[str], list[str]]:
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]
    kept = [index % settings.held_out_every == 0 for index in range(len(lines))]
    return (
        [line for line, held in zip(lines, kept, strict=True) if not held],
        [line for line, held in zip(lines, kept, strict=True) if held],
    )


def _train(
    architecture: Architecture, vocabulary: int, windows: Tensor, held_out: Tensor, settings: Settings, say: Say
) -> tuple[PreTrainedModel, float]:
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    model = _build(architecture, vocabulary, settings)
    steps = max(1, settings.tokens // (settings.batch_size * settings.positions))
    say(f"{model.num_parameters():,} parameters; {steps} steps over {windows.shape[0] * settings.positions:,} tokens")
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, (0.9, 0.95), weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_lr(step / steps, settings.warm_up))
    order = endless_batches(range(len(windows)), settings.batch_size, np.random.default_rng(settings.seed))
    model.train()
    started = monotonic()
    for step in range(steps):
        loss = _loss(model, windows[next(order)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 10 == 0:
            left = (monotonic() - started) / (step + 1) * (steps - step - 1)
            say(f"step {step + 1} of {steps}: loss {loss.item():.3f}, {_duration(left)} left")
    perplexity = _perplexity(model, held_out, settings.batch_size)
    say(f"perplexity on held-out text: {perplexity:.2f}")
    return model, perplexity


def _build(architecture: Architecture, vocabulary: int, settings: Settings) -> PreTrainedModel:
    common = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        # In the order of the special tokens, which come first in the vocabulary.
        **{name.replace("token", "token_id"): index for index, name in enumerate(_SPECIAL)},
    }
    if architecture == "llama":
        config = LlamaConfig(
            **common,
            hidden_size=settings.hidden,
            # Three matrices where GPT-2 has two, with equally many weights per layer.
            intermediate_size=settings.hidden // 3 * 8,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=settings.positions,
        )
        return LlamaForCausalLM(config)
    config = GPT2Config(
        **common,
        n_embd=settings.hidden,
        n_layer=settings.layers,
        n_head=settings.heads,
        n_positions=settings.positions,
        # No text is seen often enough to be memorised.
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return GPT2LMHeadModel(config)


def _share_of_lr(done: float, warm_up: float) -> float:
    if done < warm_up:
        return done / warm_up
    return 0.1 + 0.45 * (1 + cos(pi * (done - warm_up) / (1 - warm_up)))


def _loss(model: PreTrainedModel, windows: Tensor) -> Tensor:
    logits = model(input_ids=windows[:, :-1]).logits
    return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def _perplexity(model: PreTrainedModel, windows: Tensor, batch_size: int) -> float:
    model.eval()
    batches = windows.split(batch_size)
    return exp(sum(_loss(model, batch).item() * len(batch) for batch in batches) / len(windows))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
