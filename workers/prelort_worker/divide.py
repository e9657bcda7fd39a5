"""Whose which row is: read, checked, held out and partitioned."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError, Problems
from .messages import DataSpec
from .partition import Places, hold_out, owned_values, partition, values_of
from .row import Row
from .seeds import derive
from .tasks.task import Task
from .templates import column_value, fill


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


def divide(task: Task, data: DataSpec, seed: str) -> Shares:
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
