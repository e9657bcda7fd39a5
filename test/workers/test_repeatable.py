"""Training on a GPU refuses operators without a deterministic form, if the model can do without them."""

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from models_for_tests import Up, come_up
from prelort_worker.__main__ import set_environment
from prelort_worker.training.batches import Batch, collate
from prelort_worker.training.nested_lora import activate, lora_parameters, set_training
from prelort_worker.training.repeatable import needs_no_others
from prelort_worker.training.train import train
from specs import FIT, LORA, SEED, data_spec, model_spec
from torch import Tensor, nn
from transformers import modeling_flash_attention_utils as flash


@pytest.fixture
def up(tiny: Path, tmp_path: Path) -> Up:
    return come_up(model_spec(tiny, "causal-lm"), LORA, data_spec(tiny, "causal-lm"), tmp_path)


class Watching(nn.Module):
    """Notes in forward and backward whether others are refused; with `scatters`, has such an operator itself."""

    def __init__(self, norm: nn.Module, scatters: bool = False) -> None:
        super().__init__()
        self.norm, self.scatters = norm, scatters
        self.refusing: set[tuple[str, bool]] = set()

    def forward(self, hidden: Tensor) -> Tensor:
        output = self.norm(hidden)
        self._note("forward")
        if output.requires_grad:
            output.register_hook(lambda _: self._note("backward"))
        if self.scatters:  # PyTorch knows no deterministic form of put_, on a CPU either
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))
        return output

    def _note(self, place: str) -> None:
        refuses = (
            torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
        )
        self.refusing.add((place, refuses))


def watch(up: Up, scatters: bool = False) -> Watching:
    base = up.nested.model.get_base_model().model  # pyright: ignore[reportAttributeAccessIssue]
    watching = Watching(cast("nn.Module", base.norm), scatters)
    base.norm = watching
    return watching


def batch_of(up: Up) -> Batch:
    activate(up.nested, up.nested.tiers[-1])
    set_training(up.nested)
    return collate(up.nested.task, up.dataset, [0, 1], up.nested.device)


def test_a_model_is_tried_with_forward_and_backward_and_left_as_it_was(up: Up):
    seen = watch(up)
    assert needs_no_others(up.nested, batch_of(up))
    assert seen.refusing == {("forward", True), ("backward", True)}
    assert all(value.grad is None for value in lora_parameters(up.nested, up.nested.tiers[-1]))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_model_with_an_operator_that_has_no_deterministic_form_needs_others(up: Up):
    watch(up, scatters=True)
    assert not needs_no_others(up.nested, batch_of(up))
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_fails_for_another_reason_is_left_to_training(up: Up, monkeypatch: pytest.MonkeyPatch):
    batch = batch_of(up)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(type(up.nested.task), "forward", fail)
    assert needs_no_others(up.nested, batch)


@pytest.mark.parametrize("is_strict", [True, False])
def test_every_pass_of_a_strict_model_refuses_them_and_none_of_another(up: Up, is_strict: bool):
    nested = replace(up.nested, is_strict=is_strict)
    seen = watch(up)
    train(nested, 8, up.dataset, up.dataset.of_client("c00"), FIT, SEED, lambda _step, _steps: None)
    assert seen.refusing == {("forward", is_strict), ("backward", is_strict)}


def test_on_a_cpu_no_model_is_strict(up: Up):
    assert not up.nested.is_strict


def test_a_worker_asks_flash_attention_for_its_deterministic_form(monkeypatch: pytest.MonkeyPatch):
    def asked() -> object:
        supported = defaultdict(bool, deterministic=True)
        return flash._process_flash_attention_kwargs(8, 8, True, supports_mapping=supported)["deterministic"]

    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "getenv", lambda name, default=None: os.environ.get(name, default))
    assert asked() is False
    set_environment(1)
    assert asked() is True
