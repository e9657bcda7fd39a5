"""A lane does what a worker does."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import CPU, dataset_of, nested_of, payload, random_adapter
from prelort_worker.errors import InputError
from prelort_worker.lanes.runner import LaneRunner, Shared
from prelort_worker.task_runner import Resident
from prelort_worker.training import side_by_side
from prelort_worker.training.side_by_side import Finished
from prelort_worker.wire.connection import Cancelled
from prelort_worker.wire.messages import Basis, Collect, Fit, Grant, Load, PartialSumSpec, Prepare, Prepared
from specs import FIT, LORA, SEED, data_spec, model_spec

BASIS = Basis(1, "ab" * 32, 2.0**20)


def quiet(_activity: str, _step: int, _steps: int) -> None:
    pass


def test_a_sum_asked_for_during_a_fit_leaves_its_base_model_as_it_is(tiny: Path):
    lane, nested = LaneRunner(CPU, Shared()), nested_of(tiny, "causal-lm")
    lane._resident = Resident(nested, dataset_of(tiny, "causal-lm"))
    rows, tail = random_adapter(nested, 4)[0], random_adapter(nested, 8)[0][4:]
    held = Fit("held", 1, 1, "c02", 4, 2.0, SEED, FIT, "F32", [], PartialSumSpec(BASIS, 64.0, needs_norm=False))
    # Does not train side by side, so that its tail is merged into the base model.
    alone = Fit("alone", 1, 1, "c01", 4, 2.0, SEED, replace(FIT, gradient_checkpointing=True), "F32", [])

    def update(asked: bool) -> np.ndarray:
        lane.run(held, payload(rows=rows), quiet)
        lane.grant(Grant("held", 1, 3.0))

        def report(_activity: str, step: int, _steps: int) -> None:
            if asked and step == 1:
                lane.run(Collect("sum", 1, BASIS, "F64"), {}, quiet)

        return np.frombuffer(lane.run(alone, payload(rows=rows, merged=tail), report)[1]["rows"].data, "<f4")

    np.testing.assert_array_equal(update(asked=True), update(asked=False))


def test_dropout_is_refused_before_anything_is_trained_without_it(tiny: Path, tmp_path: Path):
    lane, model, lora = LaneRunner(CPU, Shared()), model_spec(tiny, "causal-lm"), replace(LORA, lora_dropout=0.1)
    data = data_spec(tiny, "causal-lm")
    prepared, _ = lane.run(Prepare("p", 1, SEED, model, lora, data, str(tmp_path)), {}, quiet)
    assert isinstance(prepared, Prepared)
    with pytest.raises(InputError) as refused:
        lane.run(Load("l", 1, SEED, model, lora, prepared.index, [], str(tmp_path)), {}, quiet)
    assert refused.value.problems[0][0] == "lora.lora_dropout"
    lane.run(Load("l", 1, SEED, model, LORA, prepared.index, [], str(tmp_path)), {}, quiet)


def test_a_cancelled_fit_is_answered_while_those_beside_it_still_train(tiny: Path):
    shared, nested, answered = Shared(), nested_of(tiny, "causal-lm"), threading.Event()
    shared.count(2)
    dataset = dataset_of(tiny, "causal-lm")
    waited: list[bool] = []

    def cancel(step: int, _steps: int) -> None:
        if step == 1:
            raise Cancelled

    def wait(step: int, _steps: int) -> None:
        if step == 3:
            waited.append(answered.wait(60))

    def bring(on_step: Callable[[int, int], None]) -> Finished:
        examples = dataset.of_client("c01")
        fit = side_by_side.Fit(4, *random_adapter(nested, 4), None, FIT, dataset, examples, SEED, on_step)
        return shared.fits.bring((nested, fit), 1)

    other = threading.Thread(target=bring, args=(wait,))
    other.start()
    with pytest.raises(Cancelled):
        bring(cancel)
    answered.set()
    other.join()
    assert waited == [True]


def test_a_fit_that_keeps_its_optimizer_trains_alone_and_returns_the_state(tiny: Path):
    lane, nested = LaneRunner(CPU, Shared()), nested_of(tiny, "causal-lm")
    lane._resident = Resident(nested, dataset_of(tiny, "causal-lm"))
    rows, _ = random_adapter(nested, 4)
    task = Fit("f", 1, 1, "c01", 4, 2.0, SEED, replace(FIT, client_state="keep"), "F32", [])
    first = lane.run(task, payload(rows=rows), quiet)[1]
    assert list(first) == ["rows", "state"]
    state = torch.from_numpy(np.frombuffer(first["state"].data, "<f4").copy())
    again = lane.run(task, payload(rows=rows, state=state), quiet)[1]
    assert bytes(again["rows"].data) != bytes(first["rows"].data)
