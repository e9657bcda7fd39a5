"""Fits that train side by side end as they would alone."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from models_for_tests import dataset_of, nested_of, random_adapter
from prelort_worker.training.adapter_stacks import _saved_hook
from prelort_worker.training.nested_lora import NestedLora, read, set_base, write
from prelort_worker.training.side_by_side import Finished, Fit, train_side_by_side
from prelort_worker.training.train import Trained, train
from prelort_worker.wire.specs import FitSpec
from specs import FIT, TASKS
from torch import nn

# r, client, seed, what differs from FIT.
MIXED: list[tuple[int, str, str, dict[str, object]]] = [
    (4, "c01", "a", {}),
    (1, "c02", "b", {"lr": 0.003, "lr_b": 0.003, "head_lr": 0.02}),
    (2, "c01", "c", {"objective": "sum"}),
    (4, "c02", "d", {"objective": "none", "freeze_a": True}),
    (4, "c01", "e", {"local_steps": 2}),
    (2, "c02", "f", {"max_grad_norm": 0.05, "full_weight": 0.9}),
    (4, "c02", "g", {"objective": "sum", "full_weight": 0.25}),
    (4, "c02", "h", {"objective": "sampled"}),
    (4, "c01", "i", {"components": [0, 2], "lr_b": 0.03}),
    # Beside a tail of the components above, which acts in three steps of five.
    (2, "c01", "j", {"acting_tail": 0.6}),
]


# Of single weights: AdamW divides by the size of a gradient, and so makes much of one that is nothing but rounding.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-4)


def fits_of(nested: NestedLora, folder: Path, shared: FitSpec) -> list[Fit]:
    dataset = dataset_of(folder, nested.task.model.task)
    tail = random_adapter(nested, 8)[0][4:]
    return [
        Fit(
            r,
            *random_adapter(nested, r),
            tail if "acting_tail" in changes else None,
            replace(shared, **changes),  # pyright: ignore[reportArgumentType]
            dataset,
            dataset.of_client(client),
            seed,
            quiet,
        )
        for r, client, seed, changes in MIXED
    ]


def quiet(_step: int, _steps: int) -> None:
    pass


def alone(nested: NestedLora, fit: Fit) -> tuple[Trained, torch.Tensor, torch.Tensor]:
    set_base(nested, fit.merged)
    write(nested, fit.r, fit.rows, fit.dense)
    trained = train(nested, fit.r, fit.dataset, fit.examples, fit.spec, fit.seed, fit.on_step)
    set_base(nested, None)
    return trained, *read(nested, fit.r)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("accumulated", [1, 2])
def test_fits_of_any_rank_and_objective_end_as_they_would_alone(tiny: Path, task: str, accumulated: int) -> None:
    nested = nested_of(tiny, task)
    fits = fits_of(nested, tiny, replace(FIT, local_steps=5, gradient_accumulation_steps=accumulated))
    for fit, ended in zip(fits, train_side_by_side(nested, fits), strict=True):
        assert isinstance(ended, Finished)
        trained, rows, dense = alone(nested, fit)
        assert (rows - fit.rows).abs().max() > 1e-3
        assert ended.rows.shape == rows.shape
        assert_close(ended.rows, rows)
        assert_close(ended.dense, dense)
        assert ended.trained.passes == trained.passes
        assert ended.trained.loss == pytest.approx(trained.loss, rel=1e-5)
        assert ended.trained.rms_loss == pytest.approx(trained.rms_loss, rel=1e-5)
        if trained.grad_norm is not None:
            assert trained.grad_norm > fit.spec.max_grad_norm
        assert ended.trained.grad_norm == (trained.grad_norm and pytest.approx(trained.grad_norm, rel=1e-4))


def test_a_fit_that_is_cancelled_leaves_the_others_alone(tiny: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    fits = fits_of(nested, tiny, replace(FIT, local_steps=4))

    def cancel(step: int, _steps: int) -> None:
        if step == 2:
            raise KeyError("cancelled")

    ended = train_side_by_side(nested, [replace(fits[0], on_step=cancel), *fits[1:]])
    assert isinstance(ended[0], KeyError)
    for fit, other in zip(fits[1:], ended[1:], strict=True):
        assert isinstance(other, Finished)
        assert_close(other.rows, alone(nested, fit)[1])


def test_examples_that_cannot_be_read_end_their_fit_alone(tiny: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    fits = fits_of(nested, tiny, replace(FIT, local_steps=2))
    fields = {name: value[:1] for name, value in fits[0].dataset.fields.items()}
    ended = train_side_by_side(nested, [replace(fits[0], dataset=replace(fits[0].dataset, fields=fields)), *fits[1:]])
    assert isinstance(ended[0], IndexError)
    for fit, other in zip(fits[1:], ended[1:], strict=True):
        assert isinstance(other, Finished)
        assert_close(other.rows, alone(nested, fit)[1])


class FirstToken(nn.Module):
    """A head like RoBERTa's, which takes the first position of every example."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.out(features[:, 0, :])


def test_a_head_sees_a_batch(tiny: Path) -> None:
    nested = nested_of(tiny, "sequence-classification")
    saved, head, x = nested.saved[0], FirstToken(), torch.randn(3, 5, 4)
    saved.wrapper.original_module = head
    parameters = {name: torch.stack([value.detach()] * 3) for name, value in head.named_parameters()}
    assert torch.allclose(_saved_hook(saved, parameters)(head, (x,), x), head(x))
