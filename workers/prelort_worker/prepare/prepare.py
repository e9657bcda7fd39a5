"""The `prepare` task: reads, checks, tokenises, holds out and partitions the data, once for all workers."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

import torch

from ..errors import InputError, Problems
from ..files.file_hashes import file_sha256
from ..files.source_files import code_sha256, describe_source
from ..models import refuse_quantisation
from ..prepared_dataset import (
    INDEX_VERSION,
    ClientInfo,
    Example,
    Index,
    IndexInfo,
    make_index,
    read_index,
    write_index,
)
from ..rows.row import Row
from ..rows.templates import column_text
from ..tasks.find import find_task
from ..tasks.task import Task
from ..wire.messages import DataSpec, IndexFile, Prepare, Prepared, PreparedClient, ValueCount
from ..wire.validation import to_map
from .check_model import inspect
from .data_sources import DataSources, data_sources
from .sources import write_sources
from .split import client_ids, divide

Report = Callable[[int, int], None]
# Of a client's mix, and of all together, so that they fit into one message, however many clients there are.
_VALUES, _ALL_VALUES, _VALUE_LENGTH = 60, 20_000, 60


def prepare(message: Prepare, device: torch.device, report: Report) -> Prepared:
    """
    The same data, spec, task and seed give the same file, which is made only once. Whatever the user has to mend, of
    data and of model, is told in one InputError.
    """
    problems = Problems()
    data, cache_dir = message.data, Path(message.cache_dir)
    task = find_task(message.model, device)
    task.check(data, problems)
    index, path, sources = None, None, None
    with problems.gathered("data.path"):
        if problems:  # of the tokenizer: what is wrong with the data can be told all the same
            divide(task, data, message.seed)
        else:
            sources = _sources(message, task, report)
            path = cache_dir / "prepared" / f"{_key(message, task, sources)}.safetensors"
            index = _read_made(path) or build_index(task, data, message.seed, report)
    with problems.gathered("model.quantization"):
        refuse_quantisation(message.model, device)
    inspect(task, message.lora, index, problems)
    problems.raise_any()
    assert index is not None and path is not None and sources is not None
    if not path.is_file():
        write_index(path, index)
    return _reply(message, path, index, sources)


def _sources(message: Prepare, task: Task, report: Report) -> DataSources:
    try:
        return data_sources(task, message.data, Path(message.cache_dir), partial(_report_bytes, report))
    except InputError:
        build_index(task, message.data, message.seed, report)  # tells that, and whatever else is wrong with the rows
        raise


def _report_bytes(report: Report, done: int, of: int) -> None:
    report(done // 1_000_000, of // 1_000_000)


def _read_made(path: Path) -> Index | None:
    """What an earlier run made, if it is there and whole; else it is made again."""
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:  # of an earlier version
        path.chmod(0o600)
    try:
        return read_index(path)
    except InputError:
        path.unlink(missing_ok=True)
        return None


def build_index(task: Task, data: DataSpec, seed: str, report: Report) -> Index:
    # What a task of one's own raises on some of the rows must not hide what is wrong with the others.
    is_built_in = ":" not in task.model.task
    shares = divide(task, data, seed, (lambda rows: task.encode(rows, data, report)) if is_built_in else None)
    ordered = [row for part, _ in shares.parts() for row in part]
    try:
        encoded = task.encode(ordered, data, report)
    except InputError:
        task.encode(shares.in_order(), data, report)  # names the first faulty rows of a file first
        raise
    if len(encoded) != len(ordered):
        raise InputError(
            f"{type(task).__name__}.encode gave {len(encoded)} examples for {len(ordered)} rows; expected one for each",
            "model.task",
        )
    parts: list[Sequence[Example]] = []
    n_truncated: list[int] = []
    rest = iter(encoded)
    for part, is_training in shares.parts():
        examples = list(islice(rest, len(part)))
        n_truncated.append(sum(bool(example.get("truncated", False)) for example in examples))
        kept = [{name: value for name, value in each.items() if name != "truncated"} for each in examples]
        parts.append(task.pack(kept, data, is_training) if data.packing else kept)
    lengths = [[task.length(example) for example in part] for part in parts]
    ids = client_ids(len(shares.clients))
    clients = [
        ClientInfo(
            id=client_id,
            label_counts=_label_counts(task, data, training),
            mix=_mix(task, data, training, min(_VALUES, _ALL_VALUES // len(ids))),
            n_tokens=sum(lengths[1 + 2 * place]),
            n_truncated=n_truncated[1 + 2 * place],
        )
        for place, (client_id, (training, _)) in enumerate(zip(ids, shares.clients, strict=True))
    ]
    info = IndexInfo(
        task=task.model.task,
        labels=task.labels,
        n_truncated=sum(n_truncated),
        pad_token_id=task.pad_token_id,
        clients=clients,
        source=code_sha256(task.model),
        remarks=[*shares.remarks, *task.remarks],
    )
    flat = [example for part in parts for example in part]
    return make_index(info, flat, [length for part in lengths for length in part], [len(part) for part in parts])


def _label_counts(task: Task, data: DataSpec, rows: Sequence[Row]) -> list[int]:
    counts = Counter(task.label(row, data) for row in rows) if task.labels else Counter()
    return [counts[label] for label in task.labels]


def _mix(task: Task, data: DataSpec, rows: Sequence[Row], most: int) -> list[tuple[str, int]]:
    """By the column that the partition goes by, else by the label; the commonest first, the rest as `others`."""
    by = data.partition.by
    found = (column_text(row, by, "data.partition.by") if by else task.label(row, data) for row in rows)
    counts = Counter(value[:_VALUE_LENGTH] for value in found if value is not None).most_common()
    if len(counts) <= most:
        return counts
    shown = counts[: max(0, most - 1)]
    return [*shown, ("others", sum(count for _, count in counts[len(shown) :]))]


def _key(message: Prepare, task: Task, sources: DataSources) -> str:
    spec = {**to_map(message.data), "path": sources.sha256, "eval_path": None}
    # Of a task of one's own nothing is known: whatever it is made with may decide its examples.
    own = None
    if (code := code_sha256(message.model)) is not None:
        own = [code, to_map(message.model), to_map(describe_source(message.model, Path(message.cache_dir)))]
    parts = [INDEX_VERSION, message.model.task, own, message.seed, spec, task.fingerprint()]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _reply(message: Prepare, path: Path, index: Index, sources: DataSources) -> Prepared:
    cache_dir = Path(message.cache_dir)
    clients = [
        PreparedClient(
            id=client.id,
            n=len(index.of_client(client.id)),
            n_eval=len(index.held_out_of(client.id)),
            label_counts=client.label_counts,
            mix=[ValueCount(value, n) for value, n in client.mix],
            n_tokens=client.n_tokens,
            n_truncated=client.n_truncated,
        )
        for client in index.info.clients
    ]
    return Prepared(
        message.task_id,
        message.attempt,
        IndexFile(str(path), file_sha256(path, cache_dir)),
        sources.sha256,
        write_sources(message.model, sources, cache_dir),
        index.info.labels,
        len(index.held_out),
        index.info.n_truncated,
        index.info.remarks,
        clients,
    )
