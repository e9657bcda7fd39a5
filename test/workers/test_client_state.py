"""Fits whose optimizers go on from where the client's last one ended, against one long run of PyTorch's."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import CPU, dataset_of, nested_of, payload, random_adapter, resident_of
from prelort_worker.seeds import derive
from prelort_worker.task_runner import fit
from prelort_worker.training.batches import collate, mean_loss
from prelort_worker.training.nested_lora import (
    NestedLora,
    activate,
    dense_parameters,
    factors,
    lora_parameters,
    read,
    set_training,
    write,
)
from prelort_worker.training.steps import endless_batches
from prelort_worker.training.train import Trained, train
from prelort_worker.wire import messages
from prelort_worker.wire.specs import ADAMW, Adafactor, AdamW, FitSpec, Sgd
from specs import FIT, SEED, TASKS
from torch import Tensor
from transformers.optimization import Adafactor as AdafactorOfTransformers

R = 4
KEEP = replace(FIT, objective="none", local_steps=3, lr=0.01, lr_b=0.02, head_lr=0.005, client_state="keep")
# Of the two fits.
SEEDS = SEED, SEED[::-1]

Make = Callable[[NestedLora], torch.optim.Optimizer]


def adamw(nested: NestedLora) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups_of(nested), betas=(0.8, 0.95), eps=1e-6, weight_decay=0.0)


def sgd(nested: NestedLora) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups_of(nested), momentum=0.9, nesterov=True)


def adafactor(nested: NestedLora) -> torch.optim.Optimizer:
    return AdafactorOfTransformers(groups_of(nested), lr=1.0, scale_parameter=False, relative_step=False)


OPTIMIZERS: list[tuple[AdamW | Sgd | Adafactor, Make]] = [
    (AdamW("adamw", [0.8, 0.95], 1e-6, 0.0), adamw),
    (Sgd("sgd", 0.9, True, 0.0), sgd),
    (Adafactor("adafactor", 0.0), adafactor),
]


def groups_of(nested: NestedLora) -> list[dict[str, object]]:
    pairs = factors(nested, R)
    groups: list[dict[str, object]] = [
        {"params": [a for a, _ in pairs], "lr": KEEP.lr},
        {"params": [b for _, b in pairs], "lr": KEEP.lr_b},
        {"params": dense_parameters(nested, R), "lr": KEEP.head_lr},
    ]
    return [group for group in groups if group["params"]]


def values_of(nested: NestedLora) -> Tensor:
    rows, dense = read(nested, R)
    return torch.cat([rows.flatten(), dense])


def train_in(
    nested: NestedLora, folder: Path, spec: FitSpec, seed: str = SEED, carried: Tensor | None = None
) -> Trained:
    dataset = dataset_of(folder, nested.task.model.task)
    return train(nested, R, dataset, dataset.of_client("c01"), spec, seed, lambda _step, _steps: None, carried)


def by_hand(folder: Path, task: str, make: Make) -> tuple[Tensor, Tensor]:
    """One run of plain PyTorch over both fits' batches: what it trained, and its optimizer's state in our order."""
    nested, dataset = nested_of(folder, task), dataset_of(folder, task)
    write(nested, R, *random_adapter(nested, R))
    activate(nested, R)
    set_training(nested)
    optimizer = make(nested)
    for seed in SEEDS:
        order = endless_batches(dataset.of_client("c01"), KEEP.batch_size, np.random.default_rng(derive(seed, "order")))
        torch.manual_seed(derive(seed, "dropout"))
        for examples in islice(order, KEEP.local_steps):
            optimizer.zero_grad()
            mean_loss(nested, collate(nested.task, dataset, examples, CPU)).backward()
            optimizer.step()
    names = ["step", "exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "momentum_buffer"]
    kept = [
        torch.as_tensor(optimizer.state[value][name], dtype=torch.float32).flatten()
        for value in [*lora_parameters(nested, R), *dense_parameters(nested, R)]
        for name in names
        if name in optimizer.state[value]
    ]
    return values_of(nested), torch.cat(kept)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("optimizer", "make"), OPTIMIZERS, ids=["adamw", "sgd", "adafactor"])
def test_two_fits_with_the_state_carried_over_are_one_run_of_the_librarys_optimizer(
    tiny: Path, task: str, optimizer: AdamW | Sgd | Adafactor, make: Make
) -> None:
    spec = replace(KEEP, optimizer=optimizer)
    first = nested_of(tiny, task)
    write(first, R, *random_adapter(first, R))
    carried = train_in(first, tiny, spec, SEEDS[0]).state
    # The next fit is another worker's.
    second = nested_of(tiny, task)
    write(second, R, *read(first, R))
    ended = train_in(second, tiny, spec, SEEDS[1], carried)
    values, state = by_hand(tiny, task, make)
    assert torch.equal(values_of(second), values)
    assert ended.state is not None and torch.equal(ended.state, state)
    write(second, R, *read(first, R))
    train_in(second, tiny, spec, SEEDS[1])
    assert not torch.equal(values_of(second), values)


@pytest.mark.parametrize("optimizer", [optimizer for optimizer, _ in OPTIMIZERS], ids=["adamw", "sgd", "adafactor"])
def test_what_a_fit_does_not_train_keeps_its_state(tiny: Path, optimizer: AdamW | Sgd | Adafactor) -> None:
    nested, spec = nested_of(tiny, "causal-lm"), replace(KEEP, optimizer=optimizer)
    write(nested, R, *random_adapter(nested, R))
    carried = train_in(nested, tiny, spec).state
    ended = train_in(nested, tiny, replace(spec, freeze_a=True), carried=carried).state
    untrained = train_in(nested, tiny, replace(spec, local_steps=0), carried=carried).state
    assert carried is not None and ended is not None and untrained is not None
    assert torch.equal(untrained, carried)
    # A of the first module comes first.
    a = factors(nested, R)[0][0]
    size = {"adamw": 1 + 2 * a.numel(), "sgd": a.numel(), "adafactor": 1 + sum(a.shape)}[optimizer.name]
    assert torch.equal(ended[:size], carried[:size])
    assert not torch.equal(ended[size:], carried[size:])


def test_a_fit_task_takes_and_returns_the_state_beside_the_update(tiny: Path) -> None:
    resident = resident_of(tiny)
    nested = resident.nested
    rows, _ = random_adapter(nested, R)
    task = messages.Fit("f", 1, 1, "c01", R, 2.0, SEED, replace(KEEP, optimizer=ADAMW), "I8X256", [])

    def run(task: messages.Fit, **sent: Tensor) -> dict[str, np.ndarray]:
        _, answer = fit(resident, task, payload(rows=rows, **sent), lambda _activity, _step, _steps: None)
        assert [tensor.dtype for name, tensor in answer.items() if name == "state"] in ([], ["F32"])
        return {name: np.frombuffer(tensor.data, np.uint8) for name, tensor in answer.items()}

    new, first = run(replace(task, fit=replace(task.fit, client_state="new"))), run(task)
    assert list(new) == ["rows"] and list(first) == ["rows", "state"]
    np.testing.assert_array_equal(first["rows"], new["rows"])
    state = torch.from_numpy(first["state"].view("<f4").copy())
    again = run(task, state=state)
    assert not np.array_equal(again["rows"], first["rows"])
    # The first value is how many steps the first A has had.
    assert [state[0].item(), again["state"].view("<f4")[0]] == [3, 6]
    with pytest.raises(ValueError, match=f"expected {len(state)} values, as adamw has them, got .{len(state) - 1}"):
        run(task, state=state[1:])
