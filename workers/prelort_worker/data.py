"""The `prepare` task: reads, checks, tokenises, holds out and partitions the data, once for all workers."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from .errors import InputError, Problems
from .index import (
    INDEX_VERSION,
    ClientInfo,
    Example,
    Index,
    IndexInfo,
    file_sha256,
    make_index,
    read_index,
    write_index,
)
from .inspect import inspect
from .messages import DataSpec, IndexFile, Prepare, Prepared, PreparedClient, ValueCount
from .models import refuse_quantisation
from .partition import Places, hold_out, owned_values, partition, values_of
from .records import to_map
from .row import Row
from .rows import rows_sha256
from .seeds import derive
from .tasks.find import find_task, source_sha256
from .tasks.task import Task
from .templates import column_text, column_value, fill

Report = Callable[[int, int], None]
# Of a client's mix, and of all together, so that they fit into one message, however many clients there are.
_VALUES, _ALL_VALUES, _VALUE_LENGTH = 60, 20_000, 60


def prepare(message: Prepare, device: torch.device, report: Report) -> Prepared:
    """
    The same data, spec, task and seed give the same file, which is made only once. Whatever the user has to mend, of
    data and of model, is told in one InputError.
    """
    problems = Problems()
    data = message.data
    task = find_task(message.model, device)
    task.check(data, problems)
    index, path = None, None
    with problems.gathered("data.path"):
        if problems:  # of the tokenizer: what is wrong with the data can be told all the same
            _divide(task, data, message.seed)
        else:
            path = Path(message.cache_dir) / "prepared" / f"{_key(message, task)}.safetensors"
            index = _read_made(path) or build_index(task, data, message.seed, report)
    with problems.gathered("model.quantization"):
        refuse_quantisation(message.model, device)
    inspect(task, message.lora, index, problems)
    problems.raise_any()
    assert index is not None and path is not None
    if not path.is_file():
        write_index(path, index)
    return _reply(message, path, index)


def _read_made(path: Path) -> Index | None:
    """What an earlier run made, if it is there and whole; else it is made again."""
    try:
        return read_index(path)
    except InputError:
        path.unlink(missing_ok=True)
        return None


@dataclass(frozen=True)
class Shares:
    """Who holds which row: those held out from all, then of each client those it trains on and those it does not."""

    held_out: list[Row]
    clients: list[tuple[list[Row], list[Row]]]

    def parts(self) -> Iterable[tuple[list[Row], bool]]:
        yield self.held_out, False
        for training, held_out in self.clients:
            yield training, True
            yield held_out, False


def build_index(task: Task, data: DataSpec, seed: str, report: Report) -> Index:
    shares = _divide(task, data, seed)
    ordered = [row for part, _ in shares.parts() for row in part]
    encoded = task.encode(ordered, data, report)
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
        remarks=_remarks(task, data, shares),
    )
    flat = [example for part in parts for example in part]
    return make_index(info, flat, [length for part in lengths for length in part], [len(part) for part in parts])


def _divide(task: Task, data: DataSpec, seed: str) -> Shares:
    """Reads the rows and deals them out; raises one InputError with all that is wrong."""
    problems = Problems()
    rows, apart, shares = [], None, None
    with problems.gathered("data.path"):
        rows = task.read(data.path, data.split, data)
        _check_columns(task, data, rows, problems)
        with problems.gathered("data.partition.by"):
            values_of(data.partition, rows[:1])
    if data.eval_path is not None or data.eval_split is not None:
        with problems.gathered("data.eval_path"):
            apart = task.read(data.eval_path or data.path, data.eval_split, data)
            _check_columns(task, data, apart, problems)
    problems.raise_any()
    with problems.gathered("data.label"):
        # Over all of it, so that the labels do not depend on which examples are drawn.
        task.labels = sorted({label for row in rows if (label := task.label(row, data)) is not None})
        _check_labels(task, data, apart, problems)
    with problems.gathered("data"):
        shares = _share(data, rows, apart, seed)
    problems.raise_any()
    assert shares is not None
    return shares


def client_ids(count: int) -> list[str]:
    return [f"c{place:0{max(2, len(str(count - 1)))}d}" for place in range(count)]


def _check_columns(task: Task, data: DataSpec, rows: Sequence[Row], problems: Problems) -> None:
    """In the first row, so that every option with a wrong column is told; what is wrong in others, encoding tells."""
    for row in rows[:1]:
        for option in ("text", "prompt", "answer"):
            if (template := getattr(data, option)) is not None:
                with problems.gathered(f"data.{option}"):
                    fill(template, row, f"data.{option}")
        for option in ("messages", "image"):
            if (name := getattr(data, option)) is not None:
                with problems.gathered(f"data.{option}"):
                    column_value(row, name, f"data.{option}")
        with problems.gathered("data.label"):
            task.label(row, data)


def _check_labels(task: Task, data: DataSpec, apart: Sequence[Row] | None, problems: Problems) -> None:
    if data.label is None:
        return
    if len(task.labels) < 2:
        there = ", ".join(task.labels) or "none"
        problems.add("data.label", f"expected at least two labels in {data.path}, got {there} alone")
    unseen = Counter(label for row in apart or () if (label := task.label(row, data)) not in set(task.labels))
    if unseen:
        told = ", ".join(f"{label} ({count})" for label, count in unseen.most_common(5))
        problems.add(
            "data.eval_path",
            f"has labels that no training example has: {told}; expected some of {', '.join(task.labels[:20])}",
        )


def _share(data: DataSpec, rows: Sequence[Row], apart: Sequence[Row] | None, seed: str) -> Shares:
    values = values_of(data.partition, rows)
    owned = owned_values(data.partition, values, data.clients)
    used = set(values if owned is None else owned)
    pool = [place for place, value in enumerate(values) if value in used]
    held_out, training = _draw(data, pool, apart is not None, seed)
    parts = _parts(data, [values[place] for place in training], owned, seed)
    divided = hold_out(parts, data.client_eval_examples, np.random.default_rng(derive(seed, "held out of clients")))

    def chosen(places: Places) -> list[Row]:
        return [rows[training[place]] for place in places]

    clients = [(chosen(own), chosen(other)) for own, other in divided]
    if apart is None:
        return Shares([rows[place] for place in held_out], clients)
    order = np.random.default_rng(derive(seed, "held-out examples")).permutation(len(apart))[: data.eval_examples]
    return Shares([apart[place] for place in sorted(order)], clients)


def _draw(data: DataSpec, pool: list[int], is_apart: bool, seed: str) -> tuple[list[int], list[int]]:
    """Which of the examples in the pool are held out from all, and which are the clients': disjoint."""
    n, held_out = len(pool), 0 if is_apart else data.eval_examples
    if held_out >= n:
        raise InputError(f"cannot hold out {held_out} of the {n} examples of {data.path}", "data.eval_examples")
    order = np.random.default_rng(derive(seed, "examples")).permutation(pool).tolist()
    return order[:held_out], order[held_out:][: data.max_examples]


def _parts(data: DataSpec, values: list[str], owned: list[str] | None, seed: str) -> list[Places]:
    """Places in `values` of client after client."""
    rng = np.random.default_rng(derive(seed, "partition"))
    parts = partition(data.partition, values, len(values), data.clients, rng, owned)
    asked = data.client_eval_examples
    for client_id, part in zip(client_ids(len(parts)), parts, strict=True):
        if len(part) <= asked:
            raise InputError(
                f"client {client_id}: expected at least {asked + 1} examples, one to train on and {asked} to hold out "
                f"(data.client_eval_examples), got {len(part)}; take fewer clients or hold out fewer",
                "data.clients",
            )
    return parts


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


def _remarks(task: Task, data: DataSpec, shares: Shares) -> list[str]:
    trained = {task.label(row, data) for training, _ in shares.clients for row in training}
    lacking = [label for label in task.labels if label not in trained]
    if not lacking:
        return []
    n_held_out = sum(task.label(row, data) in lacking for row in shares.held_out)
    labels = f"label {lacking[0]} has" if len(lacking) == 1 else f"labels {', '.join(lacking)} have"
    return [f"{labels} no training example; of the examples held out from all {n_held_out} have it"]


def _key(message: Prepare, task: Task) -> str:
    data = message.data
    contents = [rows_sha256(data.path, data.split, data.subset) if _reads_files(task) else _rows_hash(task, data)]
    if data.eval_path is not None or data.eval_split is not None:
        contents.append(rows_sha256(data.eval_path or data.path, data.eval_split, data.subset))
    spec = {**to_map(data), "path": contents, "eval_path": None}
    # Of a task of one's own nothing is known: whatever it is made with may decide its examples.
    own = None if (source := source_sha256(task)) is None else [source, to_map(message.model)]
    parts = [INDEX_VERSION, message.model.task, own, message.seed, spec, task.fingerprint()]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _reads_files(task: Task) -> bool:
    return type(task).read is Task.read


def _rows_hash(task: Task, data: DataSpec) -> str:
    """Of what a task of one's own reads, wherever from."""
    digest = sha256()
    for row in task.read(data.path, data.split, data):
        digest.update(json.dumps([row.where, row.columns], sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def _reply(message: Prepare, path: Path, index: Index) -> Prepared:
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
        IndexFile(str(path), file_sha256(path)),
        index.info.labels,
        len(index.held_out),
        index.info.n_truncated,
        index.info.remarks,
        clients,
    )
