"""Components that are part of the base model for a task, and of no other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import CPU, dataset_of, nested_of, payload, random_adapter, resident_of, wrapped_gpt2
from prelort_worker.errors import InputError
from prelort_worker.task_runner import Report, Resident, evaluate, fit
from prelort_worker.training.batches import collate
from prelort_worker.training.nested_lora import NestedLora, activate, set_base, write
from prelort_worker.wire.frames import Payload
from prelort_worker.wire.messages import Evaluate, Fit
from specs import FIT, LORA, SEED
from sums import Sums, sums_at
from torch import nn

FIT_TASK = Fit("f", 1, 1, "c01", 4, 2.0, SEED, FIT, "F32", [])
EVALUATE_TASK = Evaluate("e", 1, 1, "global", None, [4], 2.0, 0, 24, 8, 0, [])


def report(_activity: str, _step: int, _steps: int) -> None:
    pass


def judged(resident: Resident, task: Evaluate, sent: Payload, report: Report) -> list[Sums]:
    return sums_at(task.ranks, evaluate(resident, task, sent, report))


def base_bytes(nested: NestedLora) -> list[bytes]:
    layers = [module.layer.get_base_layer() for module in nested.modules]
    return [layer.get_parameter("weight").detach().numpy().tobytes() for layer in layers]


def llama(tiny: Path) -> tuple[NestedLora, torch.Tensor]:
    nested = nested_of(tiny, "causal-lm")
    return nested, collate(nested.task, dataset_of(tiny, "causal-lm"), range(6), CPU).tensors["input_ids"]


def gpt2(_tiny: Path) -> tuple[NestedLora, torch.Tensor]:
    return wrapped_gpt2(replace(LORA, target_modules=["c_attn", "c_proj"])), torch.arange(20).view(2, 10)


@torch.no_grad()
def logits(nested: NestedLora, tokens: torch.Tensor, r: int, rows: torch.Tensor) -> torch.Tensor:
    write(nested, r, rows, torch.zeros(0))
    activate(nested, r)
    nested.model.eval()
    return nested.model(input_ids=tokens).logits


@pytest.mark.parametrize("model", [llama, gpt2])
def test_merged_components_act_as_in_an_adapter(tiny: Path, model: Callable[[Path], tuple[NestedLora, torch.Tensor]]):
    nested, tokens = model(tiny)
    rows, _ = random_adapter(nested, 8)
    expected = logits(nested, tokens, 8, rows)
    none = torch.zeros(1, nested.width)
    assert not torch.allclose(logits(nested, tokens, 1, none), expected, atol=1e-2)
    set_base(nested, rows)
    torch.testing.assert_close(logits(nested, tokens, 1, none), expected, atol=1e-5, rtol=0)
    set_base(nested, rows[:4])
    torch.testing.assert_close(logits(nested, tokens, 4, rows[4:]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [llama, gpt2])
def test_without_merged_the_base_is_restored_bit_for_bit(
    tiny: Path, model: Callable[[Path], tuple[NestedLora, torch.Tensor]]
):
    nested, tokens = model(tiny)
    rows, _ = random_adapter(nested, 8)
    weights, before = base_bytes(nested), logits(nested, tokens, 8, rows)
    set_base(nested, rows * 3)
    set_base(nested, rows)
    assert all(a != b for a, b in zip(base_bytes(nested), weights, strict=True))
    set_base(nested, None)
    assert base_bytes(nested) == weights
    assert torch.equal(logits(nested, tokens, 8, rows), before)


def test_each_task_determines_the_base_whatever_came_before(tiny: Path):
    resident = resident_of(tiny)
    rows, _ = random_adapter(resident.nested, 4)
    some, others = random_adapter(resident.nested, 5, seed=1)[0], random_adapter(resident.nested, 3, seed=2)[0]

    def loss(**merged: torch.Tensor) -> float | None:
        sent = payload(rows=rows, **merged)
        return judged(resident, EVALUATE_TASK, sent, report)[0].loss_sum

    plain, with_some, with_others = loss(), loss(merged=some), loss(merged=others)
    assert len({plain, with_some, with_others}) == 3
    assert [loss(merged=some), loss(), loss(), loss(merged=others)] == [with_some, plain, plain, with_others]


def test_the_same_merged_components_are_computed_once(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    resident, computed = resident_of(tiny), []

    def counted(nested: NestedLora, merged: torch.Tensor | None) -> None:
        computed.append(merged)
        set_base(nested, merged)

    monkeypatch.setattr("prelort_worker.task_runner.set_base", counted)
    rows, _ = random_adapter(resident.nested, 4)
    merged = random_adapter(resident.nested, 5, seed=1)[0]
    changed = merged.clone()
    changed[-1, -1] *= -1
    for each in (merged, merged.clone(), changed):
        evaluate(resident, EVALUATE_TASK, payload(rows=rows, merged=each), report)
    assert [len(each) for each in computed] == [5, 5]


def test_a_merge_that_is_refused_leaves_nothing_for_the_next_task(tiny: Path):
    resident = resident_of(tiny)
    rows, _ = random_adapter(resident.nested, 4)
    merged = random_adapter(resident.nested, 5, seed=1)[0]
    plain = judged(resident, EVALUATE_TASK, payload(rows=rows), report)
    with pytest.raises(ValueError, match=r"merged: expected shape \[5, 1024\], got \[5, 1023\]"):
        evaluate(resident, EVALUATE_TASK, payload(rows=rows, merged=merged[:, 1:].contiguous()), report)
    evaluate(resident, EVALUATE_TASK, payload(rows=rows, merged=merged), report)
    with pytest.raises(ValueError, match="merged: expected shape"):
        evaluate(resident, EVALUATE_TASK, payload(rows=rows, merged=merged[:, 1:].contiguous()), report)
    assert judged(resident, EVALUATE_TASK, payload(rows=rows), report) == plain


def test_quantised_weights_cannot_be_merged_into(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    quantised = [
        replace(module, pristine=nn.Parameter(module.pristine.to(torch.int8), requires_grad=False))
        for module in nested.modules
    ]
    nested = replace(nested, modules=tuple(quantised))
    set_base(nested, None)
    with pytest.raises(InputError, match="flora") as refused:
        set_base(nested, random_adapter(nested, 2)[0])
    assert refused.value.problems[0][0] == "model.quantization"


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_a_fit_on_a_merged_base_returns_its_delta_to_the_received_adapter(tiny: Path, task):
    resident = resident_of(tiny, task)
    nested = resident.nested
    rows, dense = random_adapter(nested, 4)
    merged = random_adapter(nested, 5, seed=1)[0]
    _, plain = fit(resident, FIT_TASK, payload(rows=rows, dense=dense), report)
    still = replace(FIT_TASK, fit=replace(FIT, local_steps=0))
    fitted, delta = fit(resident, still, payload(rows=rows, dense=dense, merged=merged), report)
    assert delta["rows"].shape == (4, nested.width) and not any(bytes(delta["rows"].data))
    assert fitted.rms_loss is None
    _, delta = fit(resident, FIT_TASK, payload(rows=rows, dense=dense, merged=merged), report)
    assert delta["rows"].data != plain["rows"].data
    assert set(delta) == {descriptor for descriptor in ("rows", "dense") if descriptor in plain}
    assert fit(resident, FIT_TASK, payload(rows=rows, dense=dense), report)[1] == plain


def test_rows_of_an_evaluation_have_exactly_the_largest_requested_rank(tiny: Path):
    resident = resident_of(tiny)
    rows, _ = random_adapter(resident.nested, 8)
    whole = judged(resident, replace(EVALUATE_TASK, ranks=[1, 4, 8]), payload(rows=rows), report)
    part = judged(resident, replace(EVALUATE_TASK, ranks=[4, 1]), payload(rows=rows[:4]), report)
    assert part == [whole[1], whole[0]]
    for wrong in (8, 2):
        with pytest.raises(ValueError, match=f"rows: .*\\b4\\b.*\\b{wrong}$"):
            evaluate(resident, replace(EVALUATE_TASK, ranks=[1, 4]), payload(rows=rows[:wrong]), report)
