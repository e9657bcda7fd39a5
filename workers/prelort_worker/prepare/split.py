"""Assigns each row to a client or to the held-out set: reads, checks, holds out and partitions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..client_table import Numbers, client_name
from ..errors import MOST_ROWS, InputError, Problems, list_names, list_rows
from ..rows.read import PartlyRead
from ..rows.row import Row
from ..seeds import derive
from ..tasks.task import Task
from ..wire.specs import DataSpec
from .check_rows import CheckedRows, check_rows, check_templates
from .partition import Indices, hold_out, owned_values, partition, values_of


@dataclass(frozen=True)
class Shares:
    """The rows held out from all clients, then each client's training and held-out rows."""

    rows: list[Row]
    # How many are held out from all, then how many each client trains on and holds out.
    sizes: Numbers
    # Warnings about rows that can be used all the same.
    remarks: list[str]
    # All rows, by source.
    sources: tuple[Sequence[Row], ...]

    @property
    def n_clients(self) -> int:
        return len(self.sizes) // 2

    def in_order(self) -> list[Row]:
        """All rows, in the order of their files."""
        return [row for rows in self.sources for row in rows]


def split_rows(
    task: Task, data: DataSpec, seed: str, encode: Callable[[Sequence[Row]], object] | None = None
) -> Shares:
    """
    Reads the rows and assigns them; raises one InputError with all problems. If some rows are faulty, tries `encode` on
    the others, since it may find more.
    """
    problems = Problems()
    check_templates(data, problems)
    can_encode = not problems
    own, apart, shares, is_whole = None, None, None, False
    with problems.gathered("data.path"):
        rows = _read(task, data, data.path, data.split, problems)
        if data.partition.name == "files" and rows:
            values_of(data.partition, rows[:1])
        is_whole = not problems
        own = check_rows(task, data, rows, data.partition.by, problems)
    if data.eval_path is not None or data.eval_split is not None:
        with problems.gathered("data.eval_path"):
            rows = _read(task, data, data.eval_path or data.path, data.eval_split, problems, "data.eval_path")
            apart = check_rows(task, data, rows, None, problems)
    has_rows = not problems
    task.labels = _labels(own)  # over all rows, so that labels do not depend on the sample
    if is_whole:
        _check_labels(task, data, own, apart, problems)
    if problems and can_encode and encode is not None:
        task.labels = _labels(own, apart)
        with problems.gathered("data"):
            encode([row for checked in (own, apart) if checked is not None for row in checked.usable()])
    if has_rows and own is not None:
        with problems.gathered("data"):
            shares = _share(data, own, apart, seed)
    problems.raise_any()
    assert shares is not None
    return shares


def _read(
    task: Task, data: DataSpec, path: str, split: str | None, problems: Problems, option: str = "data.path"
) -> Sequence[Row]:
    """The readable rows; adds the others to `problems`."""
    try:
        return task.read(path, split, data)
    except PartlyRead as error:
        problems.take(error, option)
        return error.rows


def _labels(*checked: CheckedRows | None) -> list[str]:
    return sorted({label for each in checked if each for labels in each.labels.values() for label in labels})


def _check_labels(
    task: Task, data: DataSpec, own: CheckedRows | None, apart: CheckedRows | None, problems: Problems
) -> None:
    if data.label is None or own is None or len(own.labels) < len(own.rows) or task.fewest_labels == 0:
        return
    labels = _labels(own)
    if len(labels) < task.fewest_labels:
        least = "one label" if task.fewest_labels == 1 else "two labels"
        there = f"{', '.join(labels)} alone" if labels else "none"
        problems.add("data.label", f"expected at least {least} in {data.path}, got {there}")
    if apart is None:
        return
    known = set(labels)
    unseen = {
        index: others
        for index, held in apart.labels.items()
        if (others := [*filter(lambda each: each not in known, held)])
    }
    if unseen:
        counts = Counter(label for others in unseen.values() for label in others)
        told = [f"{label} ({count})" for label, count in counts.most_common()]
        rows = [apart.rows[index].where for index in islice(unseen, MOST_ROWS)]
        apart.faulty.update(unseen)
        problems.add(
            "data.eval_path",
            f"has labels that this model does not have: {list_names(told, 5)}, in {list_rows(rows, len(unseen))}; "
            f"it has {len(labels)}: {list_names(labels)}; remove or rename those rows",
        )


def _share(data: DataSpec, own: CheckedRows, apart: CheckedRows | None, seed: str) -> Shares:
    rows = own.rows
    values = values_of(data.partition, rows)
    owned = owned_values(data.partition, values, data.clients)
    used = set(values if owned is None else owned)
    pool = [index for index, value in enumerate(values) if value in used]
    held_out, training = _draw(data, pool, apart is not None, seed)
    parts = _parts(data, [values[index] for index in training], owned, seed)
    divided = hold_out(parts, data.client_eval_examples, np.random.default_rng(derive(seed, "held out of clients")))
    flat = [indices for own in divided for indices in own]
    owned_rows = [rows[training[index]] for index in np.concatenate(flat).tolist()]
    remarks, sources = own.remarks(), (rows,)
    common = [rows[index] for index in held_out]
    if apart is not None:
        n = len(apart.rows)
        order = np.random.default_rng(derive(seed, "held-out examples")).permutation(n)[: data.eval_examples]
        remarks += apart.remarks()
        if len(order) < n:
            remarks.append(f"evaluation takes {len(order)} of {n} examples of {_called(data)} (data.eval_examples)")
        common, sources = [apart.rows[index] for index in sorted(order)], (rows, apart.rows)
    return Shares([*common, *owned_rows], np.array([len(common), *map(len, flat)], np.int64), remarks, sources)


def _called(data: DataSpec) -> str:
    name = Path(data.eval_path or data.path).name
    return name if data.eval_split is None else f"{name}, split {data.eval_split}"


def _draw(data: DataSpec, pool: list[int], is_apart: bool, seed: str) -> tuple[list[int], list[int]]:
    """Draws the examples held out from all, and those of the clients; disjoint."""
    n, held_out = len(pool), 0 if is_apart else data.eval_examples
    if held_out >= n:
        raise InputError(f"cannot hold out {held_out} of the {n} examples of {data.path}", "data.eval_examples")
    order = np.random.default_rng(derive(seed, "examples")).permutation(pool).tolist()
    return order[:held_out], order[held_out:][: data.max_examples]


def _parts(data: DataSpec, values: list[str], owned: list[str] | None, seed: str) -> list[Indices]:
    """Indices into `values`, for each client."""
    rng = np.random.default_rng(derive(seed, "partition"))
    parts = partition(data.partition, values, len(values), data.clients, rng, owned)
    asked = data.client_eval_examples
    for index, part in enumerate(parts):
        if len(part) <= asked:
            raise InputError(
                f"client {client_name(index, len(parts))}: expected at least {asked + 1} examples, one to train on and "
                f"{asked} to hold out (data.client_eval_examples), got {len(part)}; use fewer clients or hold "
                "out fewer examples",
                "data.clients",
            )
    return parts
