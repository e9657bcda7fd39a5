"""The `prepare` task: reads, checks, tokenises, holds out and partitions the data once for all workers."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..client_table import Numbers, Tally, make_table
from ..errors import InputError, Problems
from ..files.file_hashes import file_sha256
from ..files.source_files import code_sha256, describe_source
from ..models import refuse_quantisation
from ..prepared_dataset import (
    FORMAT_VERSION,
    DatasetInfo,
    Example,
    PreparedDataset,
    make_dataset,
    read_dataset,
    write_dataset,
)
from ..rows.templates import column_text
from ..tasks.find import find_task
from ..tasks.task import Task
from ..wire.frames import Payload, pack_clients
from ..wire.messages import IndexFile, Prepare, Prepared
from ..wire.specs import DataSpec
from ..wire.validation import to_map
from .check_model import check_model
from .data_sources import DataSources, data_sources
from .sources import write_sources
from .split import Shares, split_rows
from .tallies import client_columns, sum_parts, tally_labels, tally_mix

Report = Callable[[int, int], None]


def prepare(message: Prepare, device: torch.device, report: Report) -> tuple[Prepared, Payload]:
    """
    The same data, spec, task and seed give the same file, which is made only once. Reports everything that the user has
    to fix in data and model as one InputError.
    """
    problems = Problems()
    data, cache_dir = message.data, Path(message.cache_dir)
    task = find_task(message.model, device)
    task.check(data, problems)
    dataset, path, sources = None, None, None
    with problems.gathered("data.path"):
        if problems:  # with the tokenizer; report problems of the data as well
            split_rows(task, data, message.seed)
        else:
            sources = _sources(message, task, report)
            path = cache_dir / "prepared" / f"{_key(message, task, sources)}.safetensors"
            dataset = _read_made(path) or build_dataset(task, data, message.seed, report)
    with problems.gathered("model.quantization"):
        refuse_quantisation(message.model, device)
    check_model(task, message.lora, dataset, problems)
    problems.raise_any()
    assert dataset is not None and path is not None and sources is not None
    if not path.is_file():
        write_dataset(path, dataset)
    return _reply(message, path, dataset, sources)


def _sources(message: Prepare, task: Task, report: Report) -> DataSources:
    try:
        return data_sources(task, message.data, Path(message.cache_dir), partial(_report_bytes, report))
    except InputError:
        build_dataset(task, message.data, message.seed, report)  # raises that, and whatever else is wrong with the rows
        raise


def _report_bytes(report: Report, done: int, of: int) -> None:
    report(done // 1_000_000, of // 1_000_000)


def _read_made(path: Path) -> PreparedDataset | None:
    """The dataset that an earlier run prepared, if it exists and is intact."""
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:  # written by an earlier version
        path.chmod(0o600)
    try:
        return read_dataset(path)
    except InputError:
        path.unlink(missing_ok=True)
        return None


def build_dataset(task: Task, data: DataSpec, seed: str, report: Report) -> PreparedDataset:
    # Not for custom tasks, whose errors on some rows could hide what is wrong with the others.
    is_built_in = ":" not in task.model.task
    shares = split_rows(task, data, seed, (lambda rows: task.encode(rows, data, report)) if is_built_in else None)
    try:
        encoded = task.encode(shares.rows, data, report)
    except InputError:
        task.encode(shares.in_order(), data, report)  # reports faulty rows in the order of the file
        raise
    if len(encoded) != len(shares.rows):
        raise InputError(
            f"{type(task).__name__}.encode gave {len(encoded)} examples for {len(shares.rows)} rows; "
            "expected one for each",
            "model.task",
        )
    truncated = np.fromiter((bool(example.get("truncated", False)) for example in encoded), np.int64, len(encoded))
    examples: Sequence[Example] = [
        {name: value for name, value in each.items() if name != "truncated"} for each in encoded
    ]
    sizes = shares.sizes
    if data.packing:
        packed = _pack(task, data, examples, sizes)
        examples, sizes = [example for part in packed for example in part], np.array([len(part) for part in packed])
    lengths = np.fromiter((task.length(example) for example in examples), np.int64, len(examples))
    n_tokens, n_truncated = sum_parts(lengths, sizes)[1::2], sum_parts(truncated, shares.sizes)[1::2]
    info = DatasetInfo(
        task=task.model.task,
        labels=task.labels,
        n_truncated=int(truncated.sum()),
        pad_token_id=task.pad_token_id,
        source=code_sha256(task.model),
        remarks=[*shares.remarks, *task.remarks],
    )
    table = make_table(n_tokens, n_truncated, *_tally(task, data, shares))
    return make_dataset(info, examples, lengths, sizes, table)


def _pack(task: Task, data: DataSpec, examples: Sequence[Example], sizes: Numbers) -> list[Sequence[Example]]:
    """Packs the examples held out from all, and each client's own."""
    rest = iter(examples)
    # Only what clients train on is at odd places.
    return [task.pack(list(islice(rest, size)), data, place % 2 == 1) for place, size in enumerate(sizes.tolist())]


def _tally(task: Task, data: DataSpec, shares: Shares) -> tuple[Tally, Tally, list[str]]:
    """The labels and the mix of what each client trains on."""
    clients, by = shares.n_clients, data.partition.by
    place = np.repeat(np.arange(len(shares.sizes)), shares.sizes)
    trained = np.flatnonzero(place % 2 == 1)
    owners, rows = place[trained] // 2, [shares.rows[index] for index in trained.tolist()]
    labels = [task.labels_of(row, data) for row in rows]
    flat = [label for held in labels for label in held]
    of_labels = np.repeat(owners, [len(held) for held in labels])
    label_counts = tally_labels(task.labels, flat, of_labels, clients)
    if not by:
        return label_counts, *tally_mix(flat, of_labels, clients)
    return label_counts, *tally_mix((column_text(row, by, "data.partition.by") for row in rows), owners, clients)


def _key(message: Prepare, task: Task, sources: DataSources) -> str:
    spec = {**to_map(message.data), "path": sources.sha256, "eval_path": None}
    # The examples of a custom task may depend on anything it is built from.
    own = None
    if (code := code_sha256(message.model)) is not None:
        own = [code, to_map(message.model), to_map(describe_source(message.model, Path(message.cache_dir)))]
    learned = [message.model.task, message.model.problem_type]
    parts = [FORMAT_VERSION, learned, own, message.seed, spec, task.fingerprint()]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _reply(message: Prepare, path: Path, dataset: PreparedDataset, sources: DataSources) -> tuple[Prepared, Payload]:
    cache_dir = Path(message.cache_dir)
    return Prepared(
        message.task_id,
        message.attempt,
        IndexFile(str(path), file_sha256(path, cache_dir)),
        sources.sha256,
        write_sources(message.model, sources, cache_dir),
        dataset.info.labels,
        len(dataset.held_out),
        dataset.info.n_truncated,
        dataset.info.remarks,
        [],
    ), pack_clients(client_columns(dataset))
