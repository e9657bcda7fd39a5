"""The `prepare` task: reads, checks, tokenises, holds out and partitions the data, once for all workers."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .errors import InputError
from .index import INDEX_VERSION, Index, IndexInfo, file_sha256, read_index, write_index
from .messages import DataSpec, IndexFile, Prepare, Prepared, PreparedClient, Task
from .models import load_tokenizer
from .partition import Places, commonest, hold_out, partition, partition_by_value
from .records import to_map
from .seeds import derive
from .templates import Example, column_text, fill, read_examples

Report = Callable[[int, int], None]
# Tokens; the label, or how many tokens are prompt; whether it was cut.
Encoded: TypeAlias = tuple[list[int], int, bool]
_BATCH = 512


def prepare(message: Prepare, report: Report) -> Prepared:
    """The same data, spec, tokenizer and seed give the same file, which is made only once."""
    tokenizer = load_tokenizer(message.model.name_or_path)
    path = Path(message.cache_dir) / "prepared" / f"{_key(message, tokenizer)}.safetensors"
    index = _read_made(path)
    if index is None:
        index = build_index(message.model.task, message.data, tokenizer, message.seed, report)
        write_index(path, index)
    return _reply(message, path, index)


def _read_made(path: Path) -> Index | None:
    """What an earlier run made, if it is there and whole."""
    try:
        return read_index(path)
    except InputError:
        return None


def build_index(task: Task, data: DataSpec, tokenizer: PreTrainedTokenizerBase, seed: str, report: Report) -> Index:
    examples = read_examples(Path(data.path))
    # Over the whole file, so that the labels do not depend on which examples are drawn.
    labels = sorted({_label(example, data) for example in examples}) if task == "sequence-classification" else []
    by = data.partition.by
    values = [column_text(example, by, "data.partition.by") if by else "" for example in examples]
    owned = commonest(values, data.clients) if data.partition.name == "value" else None
    used = set(values if owned is None else owned)
    pool = [place for place, value in enumerate(values) if value in used]
    held_out, training = _draw(data, pool, seed)
    client_ids = [f"c{place:0{max(2, len(str(data.clients - 1)))}d}" for place in range(data.clients)]
    shares = _share(data, client_ids, [values[place] for place in training], owned, seed)
    ordered = [examples[place] for place in (*held_out, *(training[place] for share in shares for place in share))]

    encoded: list[Encoded] = []
    for start in range(0, len(ordered), _BATCH):
        report(start, len(ordered))
        batch = ordered[start : start + _BATCH]
        encoded += (
            _encode_pairs(batch, data, tokenizer)
            if task == "causal-lm"
            else _encode_texts(batch, data, tokenizer, labels)
        )
    if task == "sequence-classification" and len(labels) < 2:
        raise InputError(f"data.label: expected at least two labels in {data.path}, got {', '.join(labels)} alone")
    tokens, targets, cut = zip(*encoded, strict=True)
    info = IndexInfo(
        task=task,
        labels=labels,
        n_truncated=sum(cut),
        pad_token_id=cast(int, tokenizer.pad_token_id),
        client_ids=client_ids,
    )
    return Index(
        info,
        input_ids=torch.tensor([token for example in tokens for token in example], dtype=torch.int32),
        starts=torch.tensor(np.cumsum([0, *map(len, tokens)])),
        targets=torch.tensor(targets),
        clients=torch.tensor(np.cumsum([len(held_out), *map(len, shares)])),
    )


def _draw(data: DataSpec, pool: list[int], seed: str) -> tuple[list[int], list[int]]:
    """Which of the examples in the pool are held out from all, and which are the clients': disjoint."""
    n = len(pool)
    if data.eval_examples >= n:
        raise InputError(f"data.eval_examples: cannot hold out {data.eval_examples} of the {n} examples of {data.path}")
    order = np.random.default_rng(derive(seed, "examples")).permutation(pool).tolist()
    training = order[data.eval_examples :]
    return order[: data.eval_examples], training[: data.max_examples]


def _share(
    data: DataSpec, client_ids: list[str], values: list[str], owned: list[str] | None, seed: str
) -> list[Places]:
    """Places in `values` of client after client: each one's training examples, then its held-out ones."""
    if owned is None:
        parts = partition(data.partition, values, data.clients, np.random.default_rng(derive(seed, "partition")))
    else:
        parts = partition_by_value(values, owned)
    asked = data.client_eval_examples
    for client_id, part in zip(client_ids, parts, strict=True):
        if len(part) <= asked:
            raise InputError(
                f"client {client_id}: expected at least {asked + 1} examples, one to train on and {asked} to hold out "
                f"(data.client_eval_examples), got {len(part)}; take fewer clients or hold out fewer"
            )
    divided = hold_out(parts, asked, np.random.default_rng(derive(seed, "held out of clients")))
    return [share for training, held_out in divided for share in (training, held_out)]


def _encode_pairs(batch: list[Example], data: DataSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded]:
    """
    prompt + answer + end-of-text. The answer is joined by one space, unless the prompt is empty or ends in white
    space, and is tokenised by itself, so that the loss begins at a token's edge. Of an example that is too long the
    prompt loses its beginning, down to half of max_length, and then the answer its end.
    """
    if data.prompt is None or data.answer is None:
        raise InputError("data: causal-lm needs prompt and answer")
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token, which ends every answer")
    if data.max_length < 2:
        raise InputError("data.max_length: expected at least 2, a token of the prompt and one of the answer")
    prompts = [fill(data.prompt, example, "data.prompt") for example in batch]
    answers = [fill(data.answer, example, "data.answer") for example in batch]
    joined = [
        answer if not prompt or prompt[-1].isspace() else f" {answer}"
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    heads = tokenizer(prompts, add_special_tokens=True)["input_ids"]
    tails = tokenizer(joined, add_special_tokens=False)["input_ids"]
    eos = cast(int, tokenizer.eos_token_id)
    first = eos if tokenizer.bos_token_id is None else cast(int, tokenizer.bos_token_id)
    for head, tail in zip(heads, tails, strict=True):
        # Some tokenizers end every text by themselves. Something must stand before the first answer token.
        head = (head[:-1] if head[-1:] == [eos] else head) or [first]
        tail = [*tail, eos]
        room = max(data.max_length - len(tail), data.max_length // 2, 1)
        kept = head[-room:]
        yield [*kept, *tail][: data.max_length], len(kept), len(head) + len(tail) > data.max_length


def _encode_texts(
    batch: list[Example], data: DataSpec, tokenizer: PreTrainedTokenizerBase, labels: list[str]
) -> Iterator[Encoded]:
    if data.text is None:
        raise InputError("data: sequence-classification needs text")
    texts = [fill(data.text, example, "data.text") for example in batch]
    whole = tokenizer(texts)["input_ids"]
    cut = tokenizer(texts, truncation=True, max_length=data.max_length)["input_ids"]
    numbers = {label: number for number, label in enumerate(labels)}
    for example, kept, tokens in zip(batch, cut, whole, strict=True):
        if not kept:
            raise InputError(f"{example.where}: data.text gives a text without a token")
        yield kept, numbers[_label(example, data)], len(kept) < len(tokens)


def _label(example: Example, data: DataSpec) -> str:
    if data.label is None:
        raise InputError("data: sequence-classification needs label")
    return column_text(example, data.label, "data.label")


def _key(message: Prepare, tokenizer: PreTrainedTokenizerBase) -> str:
    path = Path(message.data.path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (data.path)")
    spec = {**to_map(message.data), "path": file_sha256(path)}
    parts = [INDEX_VERSION, message.model.task, message.seed, spec, _tokenizer_sha256(tokenizer)]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return sha256("".join(f"{path.name}:{file_sha256(path)}\n" for path in files).encode()).hexdigest()


def _reply(message: Prepare, path: Path, index: Index) -> Prepared:
    n_labels = len(index.info.labels)
    clients = []
    for client_id in index.info.client_ids:
        own = index.of_client(client_id)
        counts = torch.bincount(index.targets[own.start : own.stop], minlength=n_labels).tolist() if n_labels else []
        clients.append(PreparedClient(client_id, len(own), len(index.held_out_of(client_id)), counts))
    return Prepared(
        message.task_id,
        message.attempt,
        IndexFile(str(path), file_sha256(path)),
        index.info.labels,
        len(index.held_out),
        index.info.n_truncated,
        clients,
    )
