"""Runs tasks as a lane: its fits train beside those of the other lanes of its process."""

import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from ..device import forget_peak_memory
from ..errors import InputError
from ..prepared_dataset import PreparedDataset
from ..task_runner import Report, Resident, TaskRunner, check_adapter, fitted, merge
from ..training.answer import Say
from ..training.batches import collate, mean_loss
from ..training.buffers import unchanged_buffers
from ..training.nested_lora import NestedLora, set_training
from ..training.side_by_side import Finished, Fit, train_side_by_side
from ..training.tensors import decoded
from ..wire import messages
from ..wire.frames import Payload
from ..wire.messages import Load, Loaded, TaskMessage, TaskReply
from ..wire.specs import ADAMW
from .gathering import Gathering, Settle


@dataclass
class Shared:
    """What the lanes of a process have in common."""

    n_lanes: int = 0
    loads: "list[_Known]" = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.fits: Gathering[tuple[NestedLora, Fit], Finished] = Gathering(_train, lambda: self.n_lanes)

    def adopt(self, nested: NestedLora) -> NestedLora:
        """The same model from another load, of another seed or run, if there is one; otherwise this."""
        return next((known.nested for known in self.loads if _is_same(known.nested, nested)), nested)

    def count(self, lanes: int) -> None:
        with self.lock:
            self.n_lanes += lanes


@dataclass(frozen=True)
class _Known:
    """A load that a lane has answered, whoever asked."""

    asked: Load
    nested: NestedLora
    dataset: PreparedDataset
    loaded: Loaded
    payload: Payload


class LaneRunner(TaskRunner):
    def __init__(self, device: torch.device, shared: Shared) -> None:
        super().__init__(device)
        self._shared = shared

    def run(
        self, task: TaskMessage, payload: Payload, report: Report, say: Say | None = None
    ) -> tuple[TaskReply, Payload]:
        resident = self._resident
        if isinstance(task, messages.Collect):  # may come during a fit, whose base model it must leave as it is
            return super().run(task, payload, report, say)
        if isinstance(task, messages.Fit) and resident and _can_join(task, payload, max(resident.nested.tiers)):
            return self._join(resident, task, payload, report)
        with self._shared.fits:
            try:
                return super().run(task, payload, report, say)
            finally:
                if self._resident:  # the others need the base model as it was loaded
                    merge(self._resident, None)

    def _load(self, task: Load, report: Report) -> tuple[Loaded, Payload]:
        if task.lora.lora_dropout > 0:  # at B = 0, as loaded, the loss would not tell
            raise InputError(f"is {task.lora.lora_dropout}; {_NO_DROPOUT}", "lora.lora_dropout")
        asked = replace(task, task_id="", attempt=1, traceparent=None)
        known = next((each for each in self._shared.loads if each.asked == asked), None)
        if known is None:
            loaded, payload = super()._load(task, report)
            assert self._resident
            _refuse_chance(self._resident.nested, self._resident.dataset)
            nested = self._shared.adopt(self._resident.nested)
            known = _Known(asked, nested, self._resident.dataset, loaded, payload)
            self._shared.loads.append(known)
        self._resident = Resident(known.nested, known.dataset)
        return replace(known.loaded, task_id=task.task_id, attempt=task.attempt), known.payload

    def _join(
        self, resident: Resident, task: messages.Fit, payload: Payload, report: Report
    ) -> tuple[TaskReply, Payload]:
        started, nested = time.monotonic(), resident.nested
        forget_peak_memory(nested.device)
        check_adapter(nested, task.scale, [task.r])
        values = decoded(payload)
        received = values["rows"], values.get("dense", torch.zeros(0))
        examples = resident.dataset.of_client(task.client_id)
        progress = partial(report, f"fit {task.client_id}")
        start = (task.r, *received, values.get("merged"), task.fit)
        own = Fit(*start, resident.dataset, examples, task.seed, progress)
        kind = id(nested), task.fit.gradient_accumulation_steps
        ended = self._shared.fits.bring((nested, own), kind)
        return fitted(resident, task, received, (ended.rows, ended.dense), ended.trained, started)


def _can_join(task: messages.Fit, payload: Payload, most: int) -> bool:
    """Not what has options that side_by_side.py leaves out, or brings many components that do not train."""
    n_merged = payload["merged"].shape[0] if "merged" in payload else 0
    fit = task.fit
    penalties = (fit.tail_penalty, fit.proximal_mu, fit.label_smoothing, fit.neftune_alpha, fit.warmup_steps)
    is_plain = (
        fit.optimizer == ADAMW and fit.client_state == "new" and not any(penalties) and not fit.gradient_checkpointing
    )
    return is_plain and task.r + n_merged <= most


def _train(items: list[tuple[NestedLora, Fit]], settle: Settle) -> list[Finished | BaseException]:
    nested = items[0][0]
    with unchanged_buffers(nested.model):
        return train_side_by_side(nested, [fit for _, fit in items], settle)


def _is_same(known: NestedLora, other: NestedLora) -> bool:
    """Whether both compute the same with the same adapter."""
    if known.task.model != other.task.model or known.task.labels != other.task.labels:
        return False
    if (known.tiers, known.scale, known.dense_shapes) != (other.tiers, other.scale, other.dense_shapes):
        return False
    mine, theirs = _frozen(known), _frozen(other)
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def _frozen(nested: NestedLora) -> dict[str, torch.Tensor]:
    """What no task writes to: the base model's values outside of modules trained in full."""
    saved = tuple(f"{module.name}." for module in nested.saved)
    base: torch.nn.Module = nested.model.get_base_model()
    return {
        name: value
        for name, value in [*base.named_parameters(), *base.named_buffers()]
        if ".lora_" not in name and not name.startswith(saved)
    }


def _refuse_chance(nested: NestedLora, dataset: PreparedDataset) -> None:
    """Dropout would draw for all fits together."""
    batch = collate(nested.task, dataset, dataset.held_out[:1], nested.device)
    set_training(nested)
    losses = []
    with torch.no_grad():
        for seed in (1, 2):
            torch.manual_seed(seed)
            losses.append(mean_loss(nested, batch).item())
    nested.model.eval()
    if losses[0] != losses[1]:
        raise InputError(f"has dropout of its own; {_NO_DROPOUT}", "model.name_or_path")


_NO_DROPOUT = "fits with dropout cannot train side by side: set it to 0, or compare without --side-by-side"
