"""Runs tasks: prepares data, loads the model, trains as a client, evaluates, answers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from .device import forget_peak_memory, peak_memory
from .errors import InputError
from .files.source_files import describe_source
from .prepare.prepare import prepare
from .prepare.without_data import without_data
from .prepared_dataset import PreparedDataset, open_dataset
from .training.add_adapters import left_out
from .training.answer import Say, Telling, answer
from .training.buffers import unchanged_buffers
from .training.build import build_nested, n_frozen
from .training.check_forward import check_forward
from .training.evaluate import evaluate_tier, finite, shard_of, spelled_bytes
from .training.example_values import to_wire
from .training.generate import samples_of, score_answers
from .training.nested_lora import NestedLora, check_largest, check_scale, read, set_base, write
from .training.partial_sum import HeldUpdates
from .training.tensors import Values, decoded, encoded, encoded_update
from .training.train import Trained, train
from .wire.fields import PartName
from .wire.frames import Payload
from .wire.generation_messages import Generate
from .wire.messages import (
    Collect,
    Evaluate,
    Evaluated,
    Fit,
    Fitted,
    Grant,
    Load,
    Loaded,
    Prepare,
    TaskMessage,
    TaskReply,
)

# Reports progress as (activity, step, steps). Raises when the task has been cancelled.
Report = Callable[[str, int, int], None]


@dataclass
class Resident:
    """Kept in memory between tasks: the base model with its adapters, and the data."""

    nested: NestedLora
    dataset: PreparedDataset
    # The components merged into the base model, if any.
    merged: torch.Tensor | None = None
    held: HeldUpdates = field(default_factory=HeldUpdates)


class TaskRunner:
    """Runs one task at a time on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resident: Resident | None = None

    def run(
        self, task: TaskMessage, payload: Payload, report: Report, say: Say | None = None
    ) -> tuple[TaskReply, Payload]:
        """The reply and its payload; the sender fills in the reply's `tensors`. `say` sends pieces of answers."""
        if isinstance(task, Prepare):
            return prepare(task, self._device, lambda step, steps: report("preparing the data", step, steps))
        if isinstance(task, Load):
            return self._load(task, report)
        if self._resident is None:
            raise RuntimeError(f"{task.task_id}: no model is loaded; expected a load task first")
        if isinstance(task, Fit):
            return fit(self._resident, task, payload, report)
        if isinstance(task, Collect):
            return self._resident.held.collect(task)
        if isinstance(task, Generate):
            rows, dense = _receive(self._resident, decoded(payload))
            return answer(self._resident.nested, task, rows, dense, Telling(task, report, say)), {}
        return evaluate(self._resident, task, payload, report)

    def grant(self, grant: Grant) -> None:
        """What becomes of an update that is held."""
        if self._resident:
            self._resident.held.grant(grant)

    def _load(self, task: Load, report: Report) -> tuple[Loaded, Payload]:
        report("loading the model", 0, 0)
        self._resident = None  # two base models may not fit in memory
        cache_dir = Path(task.cache_dir)
        dataset = self._dataset(task, cache_dir)
        if dataset.info.task != task.model.task:
            raise ValueError(f"index: expected data for {task.model.task}, got {dataset.info.task}")
        before = describe_source(task.model, cache_dir, partial(_report_hashing, report))
        nested = build_nested(task.model, task.lora, dataset.info, self._device, task.seed)
        source = describe_source(task.model, cache_dir, partial(_report_hashing, report))
        if source != before and Path(task.model.name_or_path).is_dir():  # a hub model may have been downloaded just now
            raise InputError(f"{task.model.name_or_path}: changed while it was loaded", "model.name_or_path")
        report("trying the model", 0, 0)
        nested = check_forward(nested, dataset)
        self._resident = Resident(nested, dataset)
        dense = read(nested, nested.tiers[-1])[1]
        payload: Payload = {"dense": encoded(dense)} if len(dense) else {}
        return Loaded(
            task_id=task.task_id,
            attempt=task.attempt,
            modules=[module.shape for module in nested.modules],
            dense=nested.dense_shapes,
            n_parameters=n_frozen(nested),
            peft_type=nested.task.peft_type,
            modules_to_save=[module.name for module in nested.saved],
            left_out=left_out(nested),
            source=source,
            tensors=[],
        ), payload

    def _dataset(self, task: Load, cache_dir: Path) -> PreparedDataset:
        if task.index is not None:
            return open_dataset(Path(task.index.path), task.index.sha256, cache_dir)
        return without_data(task.model, task.labels, self._device)


def _report_hashing(report: Report, done: int, of: int) -> None:
    report("hashing the model, in MB", done // 1_000_000, of // 1_000_000)


def fit(resident: Resident, task: Fit, payload: Payload, report: Report) -> tuple[Fitted, Payload]:
    """Loads the adapter the client received, trains it, and returns new − received."""
    started = time.monotonic()
    nested = resident.nested
    forget_peak_memory(nested.device)
    check_adapter(nested, task.scale, [task.r])
    examples = resident.dataset.of_client(task.client_id)
    values = decoded(payload)
    received = _receive(resident, values)
    write(nested, task.r, *received)
    with unchanged_buffers(nested.model):
        progress = partial(report, f"fit {task.client_id}")
        carried = values.get("state")
        trained = train(nested, task.r, resident.dataset, examples, task.fit, task.seed, progress, carried)
    return fitted(resident, task, received, read(nested, task.r), trained, started)


def fitted(
    resident: Resident, task: Fit, received: Values, ended: Values, trained: Trained, started: float
) -> tuple[Fitted, Payload]:
    """The answer to a fit task that began at `started`, in seconds of the monotonic clock."""
    nested = resident.nested
    delta = encoded_update(task, received, ended)
    norm = resident.held.hold(task, delta, task.partial_sum) if task.partial_sum else None
    sent: Payload = {} if task.partial_sum else delta
    if trained.state is not None:
        sent = {**sent, "state": encoded(trained.state)}
    return Fitted(
        task_id=task.task_id,
        attempt=task.attempt,
        client_id=task.client_id,
        r=task.r,
        scale=nested.scale,
        n=len(resident.dataset.of_client(task.client_id)),
        steps=task.fit.local_steps,
        passes=trained.passes,
        loss=finite(trained.loss),
        rms_loss=finite(trained.rms_loss),
        grad_norm=finite(trained.grad_norm),
        seconds=time.monotonic() - started,
        peak_memory_bytes=peak_memory(nested.device),
        norm=norm,
        tensors=[],
    ), sent


def evaluate(resident: Resident, task: Evaluate, payload: Payload, report: Report) -> tuple[Evaluated, Payload]:
    """Evaluates each requested rank, with its prefix of the rows, on one shard."""
    started = time.monotonic()
    nested = resident.nested
    check_adapter(nested, task.scale, task.ranks)
    shard = shard_of(resident.dataset, task)
    rows, dense = _receive(resident, decoded(payload))
    check_largest(rows, task.ranks)
    spelled = spelled_bytes(nested.task, resident.dataset, shard)
    tiers, answers = [], list[list[str]]()
    with unchanged_buffers(nested.model):
        for index, r in enumerate(task.ranks):
            write(nested, r, rows[:r], dense)

            def progress(verb: str, done: int, of: int, before: int = index) -> None:
                report(f"{verb} rank {task.ranks[before]}", before * of + done, len(task.ranks) * of)

            values = evaluate_tier(nested, r, resident.dataset, shard, task.batch_size, partial(progress, "evaluate"))
            if task.max_new_tokens > 0:
                settings = (task.batch_size, task.max_new_tokens, partial(progress, "generate"))
                scores = score_answers(nested, r, resident.dataset, shard, *settings)
                values = values.extended({"rouge_l": scores.rouge_l}, scores.own)
                answers.append(scores.answers)
            tiers.append(values.extended(spelled, {}))
    samples = samples_of(nested, resident.dataset, shard[: task.samples], answers) if answers else []
    columns, metrics, carried = to_wire(tiers)
    seconds = time.monotonic() - started
    return Evaluated(task.task_id, task.attempt, columns, metrics, seconds, [], samples), carried


def check_adapter(nested: NestedLora, scale: float, ranks: list[int]) -> None:
    check_scale(nested, scale)
    if unknown := [r for r in ranks if r not in nested.tiers]:
        raise ValueError(f"rank {unknown[0]}: expected one of the tiers {', '.join(map(str, nested.tiers))}")


def _receive(resident: Resident, values: Mapping[PartName, torch.Tensor]) -> Values:
    """The adapter's rows and dense part, after `merged` has been applied to the base model."""
    merge(resident, values.get("merged"))
    return values["rows"], values.get("dense", torch.zeros(0))


def merge(resident: Resident, merged: torch.Tensor | None) -> None:
    """Skips the work when the bits are the same, as they are for many tasks in a row."""
    there = resident.merged
    if merged is not None and there is not None and torch.equal(merged.view(torch.int32), there.view(torch.int32)):
        return
    resident.merged = None  # if this fails half way, the next task starts over
    set_base(resident.nested, merged)
    resident.merged = merged if merged is None else merged.clone()  # borrowed memory is returned with the task
