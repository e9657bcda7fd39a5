"""Optimizers and regularisation of a fit, against PyTorch's and transformers' own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_for_tests import CPU, dataset_of, nested_of, random_adapter
from prelort_worker.errors import InputError
from prelort_worker.seeds import derive
from prelort_worker.training.batches import Batch, collate, forward, mean_loss
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
from prelort_worker.wire.specs import ADAMW, Adafactor, AdamW, FitSpec, Sgd
from specs import FIT, SEED, TASKS
from torch import Tensor, nn
from torch.optim import lr_scheduler
from transformers.integrations.neftune import activate_neftune
from transformers.optimization import Adafactor as AdafactorOfTransformers
from transformers.trainer_pt_utils import LabelSmoother

PLAIN = replace(FIT, objective="none", lr=0.01, lr_b=0.02, head_lr=0.005)
R = 4


def fit(nested: NestedLora, folder: Path, spec: FitSpec) -> tuple[Trained, Tensor]:
    """Trains the random adapter of rank 4; gives all that it trained."""
    dataset = dataset_of(folder, nested.task.model.task)
    write(nested, R, *random_adapter(nested, R))
    trained = train(nested, R, dataset, dataset.of_client("c01"), spec, SEED, lambda _step, _steps: None)
    return trained, values_of(nested)


def values_of(nested: NestedLora) -> Tensor:
    rows, dense = read(nested, R)
    return torch.cat([rows.flatten(), dense])


def groups_of(nested: NestedLora, **of_matrices: float) -> list[dict[str, Any]]:
    """A, B, and the head's matrices and vectors; all but the last with these options."""
    pairs, dense = factors(nested, R), dense_parameters(nested, R)
    matrices = [value for value in dense if value.dim() > 1]
    groups = [
        {"params": [a for a, _ in pairs], "lr": PLAIN.lr, **of_matrices},
        {"params": [b for _, b in pairs], "lr": PLAIN.lr_b, **of_matrices},
        {"params": matrices, "lr": PLAIN.head_lr, **of_matrices},
        {"params": [value for value in dense if value.dim() == 1], "lr": PLAIN.head_lr},
    ]
    return [group for group in groups if group["params"]]


def by_hand(
    folder: Path,
    task: str,
    make: Callable[[NestedLora], torch.optim.Optimizer] = lambda nested: torch.optim.AdamW(
        groups_of(nested), weight_decay=0.0
    ),
    loss_of: Callable[[NestedLora, Batch], Tensor] = mean_loss,
    rates_of: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler] | None = None,
) -> Tensor:
    """The same fit as its users would write it with PyTorch; gives all that it trained."""
    nested, dataset = nested_of(folder, task), dataset_of(folder, task)
    write(nested, R, *random_adapter(nested, R))
    activate(nested, R)
    set_training(nested)
    optimizer = make(nested)
    rates = rates_of(optimizer) if rates_of else None
    order = endless_batches(dataset.of_client("c01"), PLAIN.batch_size, np.random.default_rng(derive(SEED, "order")))
    torch.manual_seed(derive(SEED, "dropout"))
    for examples in islice(order, PLAIN.local_steps):
        optimizer.zero_grad()
        loss_of(nested, collate(nested.task, dataset, examples, CPU)).backward()
        optimizer.step()
        if rates:
            rates.step()
    return values_of(nested)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("spec", "make"),
    [
        (
            AdamW("adamw", [0.8, 0.95], 1e-6, 0.1),
            lambda nested: torch.optim.AdamW(
                groups_of(nested, weight_decay=0.1), betas=(0.8, 0.95), eps=1e-6, weight_decay=0.0
            ),
        ),
        (
            Sgd("sgd", 0.9, True, 0.1),
            lambda nested: torch.optim.SGD(groups_of(nested, weight_decay=0.1), momentum=0.9, nesterov=True),
        ),
        (Sgd("sgd", 0.0, False, 0.0), lambda nested: torch.optim.SGD(groups_of(nested))),
        (
            Adafactor("adafactor", 0.0),
            lambda nested: AdafactorOfTransformers(
                groups_of(nested), lr=1.0, scale_parameter=False, relative_step=False
            ),
        ),
    ],
    ids=["adamw", "sgd", "plain sgd", "adafactor"],
)
def test_an_optimizer_gives_the_bits_of_the_librarys(
    tiny: Path, task: str, spec: AdamW | Sgd | Adafactor, make: Callable[[NestedLora], torch.optim.Optimizer]
) -> None:
    ours = fit(nested_of(tiny, task), tiny, replace(PLAIN, optimizer=spec))[1]
    assert torch.equal(ours, by_hand(tiny, task, make))
    assert not torch.equal(ours, fit(nested_of(tiny, task), tiny, PLAIN)[1])


def test_adafactor_decays_as_in_transformers(tiny: Path) -> None:
    ours = fit(nested_of(tiny, "causal-lm"), tiny, replace(PLAIN, optimizer=Adafactor("adafactor", 0.1)))[1]

    def make(nested: NestedLora) -> torch.optim.Optimizer:
        groups = groups_of(nested, weight_decay=0.1)
        return AdafactorOfTransformers(groups, lr=1.0, scale_parameter=False, relative_step=False)

    torch.testing.assert_close(ours, by_hand(tiny, "causal-lm", make), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [replace(ADAMW, weight_decay=0.5), Sgd("sgd", 0.0, False, 0.5)])
def test_what_a_truncation_or_a_client_leaves_out_does_not_decay(tiny: Path, optimizer: AdamW | Sgd) -> None:
    nested = nested_of(tiny, "causal-lm")
    rows = random_adapter(nested, R)[0]
    spec = replace(FIT, objective="sampled", full_weight=0.0, local_steps=1, optimizer=optimizer)
    fit(nested, tiny, spec)
    after = read(nested, R)[0]
    # The step trained rank 1 or 2: tier 4 has no weight.
    assert torch.equal(after[2:], rows[2:])
    assert not torch.equal(after[0], rows[0])
    fit(nested, tiny, replace(PLAIN, components=[0, 2], optimizer=optimizer))
    still = read(nested, R)[0]
    assert torch.equal(still[[1, 3]], rows[[1, 3]])
    fit(nested, tiny, replace(PLAIN, freeze_a=True, optimizer=optimizer))
    module = nested.modules[0].shape
    assert torch.equal(read(nested, R)[0][:, : module.in_], rows[:, : module.in_])


def test_decay_counts_in_every_step_in_which_a_component_trains(tiny: Path) -> None:
    """With an eps that makes every step of AdamW nil, decay alone moves the rows."""
    nested = nested_of(tiny, "causal-lm")
    rows = random_adapter(nested, R)[0]
    spec = replace(PLAIN, optimizer=AdamW("adamw", [0.9, 0.999], 1e30, 0.5), local_steps=3)
    fit(nested, tiny, spec)
    module, after = nested.modules[0].shape, read(nested, R)[0]
    end = module.in_ + module.out
    torch.testing.assert_close(after[:, : module.in_], rows[:, : module.in_] * (1 - 0.01 * 0.5) ** 3)
    torch.testing.assert_close(after[:, module.in_ : end], rows[:, module.in_ : end] * (1 - 0.02 * 0.5) ** 3)


def test_decay_warms_up_with_the_rates(tiny: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    rows = random_adapter(nested, R)[0]
    optimizer = AdamW("adamw", [0.9, 0.999], 1e30, 0.5)
    fit(nested, tiny, replace(PLAIN, optimizer=optimizer, local_steps=2, warmup_steps=1))
    module, after = nested.modules[0].shape, read(nested, R)[0]
    end = module.in_ + module.out
    half_then_all = (1 - 0.01 * 0.5 / 2) * (1 - 0.01 * 0.5), (1 - 0.02 * 0.5 / 2) * (1 - 0.02 * 0.5)
    torch.testing.assert_close(after[:, : module.in_], rows[:, : module.in_] * half_then_all[0])
    torch.testing.assert_close(after[:, module.in_ : end], rows[:, module.in_ : end] * half_then_all[1])


@pytest.mark.parametrize("steps", [1, 3])
def test_warmup_gives_the_bits_of_pytorchs_scheduler(tiny: Path, steps: int) -> None:
    def rates_of(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (steps + 1)))

    ours = fit(nested_of(tiny, "causal-lm"), tiny, replace(PLAIN, warmup_steps=steps))[1]
    assert torch.equal(ours, by_hand(tiny, "causal-lm", rates_of=rates_of))

    def linear(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.LinearLR(optimizer, 1 / (steps + 1), 1.0, steps)

    torch.testing.assert_close(ours, by_hand(tiny, "causal-lm", rates_of=linear), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_label_smoothing_is_that_of_transformers_and_ends_with_the_fit(tiny: Path, task: str) -> None:
    def smoothed(nested: NestedLora, batch: Batch) -> Tensor:
        outputs, _ = forward(nested, batch)
        shift = task == "causal-lm"
        logits = outputs.logits if shift else outputs.logits.unsqueeze(1)
        labels = batch.tensors["labels"] if shift else batch.tensors["labels"].unsqueeze(1)
        return LabelSmoother(0.2)({"logits": logits}, labels.clone(), shift_labels=shift)

    nested = nested_of(tiny, task)
    trained, ours = fit(nested, tiny, replace(PLAIN, label_smoothing=0.2))
    assert nested.task.label_smoothing == 0
    torch.testing.assert_close(ours, by_hand(tiny, task, loss_of=smoothed), rtol=1e-4, atol=1e-5)
    plain, without = fit(nested, tiny, PLAIN)
    assert torch.equal(without, by_hand(tiny, task))
    assert trained.loss != plain.loss


@pytest.mark.parametrize("task", TASKS)
def test_neftune_is_that_of_transformers_and_ends_with_the_fit(tiny: Path, task: str) -> None:
    def noisy(nested: NestedLora, batch: Batch) -> Tensor:
        handle = activate_neftune(nested.model, 5.0)
        loss = mean_loss(nested, batch)
        handle.remove()
        return loss

    nested = nested_of(tiny, task)
    ours = fit(nested, tiny, replace(PLAIN, neftune_alpha=5.0))[1]
    torch.testing.assert_close(ours, by_hand(tiny, task, loss_of=noisy), rtol=1e-4, atol=1e-5)
    without = fit(nested, tiny, PLAIN)[1]
    assert torch.equal(without, by_hand(tiny, task))
    assert not torch.allclose(ours, without, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours, fit(nested, tiny, replace(PLAIN, neftune_alpha=5.0))[1])


@pytest.mark.parametrize("task", TASKS)
def test_the_proximal_term_is_that_of_fedprox_and_is_not_told_as_loss(tiny: Path, task: str) -> None:
    starts: list[Tensor] = []

    def pulled(nested: NestedLora, batch: Batch) -> Tensor:
        values = [*lora_parameters(nested, R), *dense_parameters(nested, R)]
        starts.extend(value.detach().clone() for value in values if len(starts) < len(values))
        away = sum((value - start).square().sum() for value, start in zip(values, starts, strict=True))
        return mean_loss(nested, batch) + 3.0 / 2 * away

    def make(nested: NestedLora) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups_of(nested))

    spec = replace(PLAIN, optimizer=Sgd("sgd", 0.0, False, 0.0))
    ours = fit(nested_of(tiny, task), tiny, replace(spec, proximal_mu=3.0))[1]
    torch.testing.assert_close(ours, by_hand(tiny, task, make, pulled), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours, fit(nested_of(tiny, task), tiny, spec)[1], rtol=1e-4, atol=1e-6)
    # The first step starts from what was received, where the term is zero.
    first = replace(spec, local_steps=1)
    assert (
        fit(nested_of(tiny, task), tiny, replace(first, proximal_mu=3.0))[0]
        == fit(nested_of(tiny, task), tiny, first)[0]
    )


def test_what_cannot_be_done_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = nested_of(tiny, "causal-lm")
    with pytest.raises(InputError, match=r"adamw_8bit needs CUDA, and this worker trains on cpu: use adamw") as refused:
        fit(nested, tiny, replace(PLAIN, optimizer=replace(ADAMW, name="adamw_8bit")))
    assert refused.value.problems[0][0] == "fit.optimizer"
    with without_embeddings(nested, monkeypatch), pytest.raises(InputError, match="uses none: set it to 0"):
        fit(nested, tiny, replace(PLAIN, neftune_alpha=5.0))
    assert nested.task.label_smoothing == 0


@contextmanager
def without_embeddings(nested: NestedLora, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    base: nn.Module = nested.model.get_base_model()
    with monkeypatch.context() as patch:
        patch.setattr(type(base), "get_input_embeddings", lambda _self: None)
        yield
