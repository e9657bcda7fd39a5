"""What the objectives promise."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models_for_tests import CPU, base_of, dataset_of, nested_of, random_adapter
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from prelort_worker.seeds import derive
from prelort_worker.training.batches import collate, mean_loss
from prelort_worker.training.nested_lora import (
    NestedLora,
    activate,
    dense_parameters,
    factors,
    lora_parameters,
    read,
    set_base,
    truncated,
    write,
)
from prelort_worker.training.steps import Pass, acts, batches_by_length, endless_batches, plan_step, tier_weights
from prelort_worker.training.train import Trained, tail_norm, train
from prelort_worker.wire.specs import FitSpec, LoraSpec, Objective
from specs import FIT, LORA, SEED, TASKS, TIERS
from torch import nn
from torch.nn import functional

OBJECTIVES = get_args(Objective)
WEIGHTS = {1: 0.2, 2: 0.1, 4: 0.2, 8: 0.5}


def fit(
    nested: NestedLora, folder: Path, r: int, spec: FitSpec, client: str = "c01"
) -> tuple[Trained, torch.Tensor, torch.Tensor]:
    """Trains the random adapter of rank r; gives new − received."""
    dataset = dataset_of(folder, nested.task.model.task)
    rows, dense = random_adapter(nested, r)
    write(nested, r, rows, dense)
    trained = train(nested, r, dataset, dataset.of_client(client), spec, SEED, lambda _step, _steps: None)
    new_rows, new_dense = read(nested, r)
    return trained, new_rows - rows, new_dense - dense


def test_only_the_chosen_components_train(tiny: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    spec = replace(FIT, objective="none")
    _, change, _ = fit(nested, tiny, 4, replace(spec, components=[0, 2]))
    assert not change[[1, 3]].any()
    assert change[[0, 2]].abs().amax(1).min() > 1e-3
    everything = fit(nested, tiny, 4, replace(spec, components=[0, 1, 2, 3]))
    assert torch.equal(everything[1], fit(nested, tiny, 4, spec)[1])


def test_b_has_a_learning_rate_of_its_own(tiny: Path) -> None:
    nested = nested_of(tiny, "causal-lm")
    spec = replace(FIT, objective="none", local_steps=1, lr=0.001, lr_b=0.02)
    change = fit(nested, tiny, 4, spec)[1]
    module = nested.modules[0].shape
    # AdamW's first step is the learning rate, in the direction of the gradient.
    assert change[:, : module.in_].abs().median() == pytest.approx(0.001, rel=0.01)
    assert change[:, module.in_ : module.in_ + module.out].abs().median() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(
    ("share", "acting"), [(1.0, [True] * 5), (0.4, [False, False, True, False, True]), (0.0, [False] * 5)]
)
def test_what_is_merged_acts_in_its_share_of_the_steps(tiny: Path, share: float, acting: list[bool]) -> None:
    assert [acts(share, step) for step in range(5)] == acting
    nested = nested_of(tiny, "causal-lm")
    tail = random_adapter(nested, 8)[0][4:]
    without = [fit(nested, tiny, 4, replace(FIT, local_steps=steps))[1] for steps in range(1, 6)]
    set_base(nested, tail)
    for steps in range(1, 6):
        same = torch.equal(
            fit(nested, tiny, 4, replace(FIT, local_steps=steps, acting_tail=share))[1], without[steps - 1]
        )
        assert same == (not any(acting[:steps]))
    # It is merged again after each step.
    assert not torch.equal(nested.modules[0].layer.get_base_layer().weight, nested.modules[0].pristine)  # pyright: ignore[reportArgumentType]


def plain_lora(folder: Path, task: str, r: int, spec: FitSpec, dropout: float) -> tuple[torch.Tensor, list[float]]:
    """The same fit with PEFT alone, as its users write it: all it trained, and the norms of gradients it clipped."""
    dataset = dataset_of(folder, task)
    nested = nested_of(folder, task)
    rows, dense = random_adapter(nested, r)
    write(nested, r, rows, dense)
    weights = get_peft_model_state_dict(nested.model, adapter_name=f"r{r}")
    model = get_peft_model(
        base_of(folder, task),
        LoraConfig(
            r=r,
            lora_alpha=2 * r,
            lora_dropout=dropout,
            target_modules=[module.shape.name for module in nested.modules],
            task_type="SEQ_CLS" if task == "sequence-classification" else "CAUSAL_LM",
        ),
    )
    assert not set_peft_model_state_dict(model, weights).unexpected_keys
    optimizer = torch.optim.AdamW(
        [value for value in model.parameters() if value.requires_grad], spec.lr, weight_decay=0
    )
    norms = []
    batches = endless_batches(dataset.of_client("c01"), spec.batch_size, np.random.default_rng(derive(SEED, "order")))
    torch.manual_seed(derive(SEED, "dropout"))
    model.train()
    for examples in islice(batches, spec.local_steps):
        optimizer.zero_grad()
        batch = collate(nested.task, dataset, examples, CPU).tensors
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if task == "causal-lm":
            functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).backward()
        else:
            functional.cross_entropy(logits, batch["labels"]).backward()
        if spec.max_grad_norm > 0:
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), spec.max_grad_norm).item())
        optimizer.step()
    trained = [value for name, value in model.named_parameters() if "lora_" in name or "modules_to_save" in name]
    return flat(trained), norms


def flat(values: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in values])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_one_tier_every_objective_is_plain_peft_training_bit_for_bit(tiny: Path, task: str, objective: Objective):
    nested = nested_of(tiny, task, replace(LORA, r=4, tiers=[4], lora_dropout=0.1))
    spec = replace(FIT, objective=objective)
    fit(nested, tiny, 4, spec)
    ours = flat([*lora_parameters(nested, 4), *dense_parameters(nested, 4)])
    assert torch.equal(ours, plain_lora(tiny, task, 4, spec, dropout=0.1)[0])


@pytest.mark.parametrize("task", TASKS)
def test_gradients_are_clipped_by_the_joint_norm_of_everything_trained(tiny: Path, task: str):
    nested = nested_of(tiny, task, replace(LORA, r=4, tiers=[4]))

    def trained_by(spec: FitSpec) -> tuple[Trained, torch.Tensor]:
        trained = fit(nested, tiny, 4, spec)[0]
        return trained, flat([*lora_parameters(nested, 4), *dense_parameters(nested, 4)])

    (off, unclipped), (measured, unclipped_too) = trained_by(FIT), trained_by(replace(FIT, max_grad_norm=1e9))
    assert off.grad_norm is None and measured.grad_norm is not None and torch.equal(unclipped, unclipped_too)
    spec = replace(FIT, max_grad_norm=measured.grad_norm / 2)
    clipped, ours = trained_by(spec)
    expected, norms = plain_lora(tiny, task, 4, spec, dropout=0.0)
    assert max(norms) > spec.max_grad_norm
    assert clipped.grad_norm == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours, unclipped, rtol=1e-4, atol=1e-6)


def test_norms_are_added_up_module_by_module_as_in_earlier_versions(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    nested, orders = nested_of(tiny, "sequence-classification"), []

    def clip(values: list[torch.Tensor], largest: float) -> torch.Tensor:
        orders.append([id(value) for value in values])
        return nn.utils.clip_grad_norm_(values, largest)

    monkeypatch.setattr("prelort_worker.training.train.clip_grad_norm_", clip)
    fit(nested, tiny, 4, replace(FIT, local_steps=1, max_grad_norm=1.0))
    fit(nested, tiny, 4, replace(FIT, local_steps=1, max_grad_norm=1.0, freeze_a=True))
    dense = dense_parameters(nested, 4)
    frozen = [b for _, b in factors(nested, 4)]
    assert orders == [
        [id(value) for value in all_] for all_ in ([*lora_parameters(nested, 4), *dense], [*frozen, *dense])
    ]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_client_of_the_lowest_tier_trains_as_if_there_were_no_other_tier(tiny: Path, objective: Objective):
    spec = replace(FIT, objective=objective)
    _, among_others, _ = fit(nested_of(tiny, "causal-lm"), tiny, 1, spec)
    _, alone, _ = fit(nested_of(tiny, "causal-lm", replace(LORA, r=1, tiers=[1])), tiny, 1, spec)
    assert torch.equal(among_others, alone)


def gradients(nested: NestedLora, folder: Path, plan: list[Pass], examples: range) -> torch.Tensor:
    dataset = dataset_of(folder, nested.task.model.task)
    activate(nested, 8)
    nested.model.eval()
    nested.model.zero_grad()
    for each in plan:
        with truncated(nested, 8, each.ranks):
            (mean_loss(nested, collate(nested.task, dataset, examples, CPU)) * each.weight).backward()
    return torch.cat([value.grad.reshape(-1) for value in lora_parameters(nested, 8) if value.grad is not None])


@pytest.mark.parametrize("task", TASKS)
def test_the_mean_gradient_of_stratified_equals_that_of_sum(tiny: Path, task: str):
    """Over each rotation of an assignment in which every tier has its share: the exact mean, not a sample of it."""
    nested = nested_of(tiny, task, replace(LORA, r=8, tiers=[2, 8]))
    write(nested, 8, *random_adapter(nested, 8))
    examples = range(4)
    assignment = [2, 8, 8, 8]
    rotations = [assignment[turn:] + assignment[:turn] for turn in range(4)]
    mean = sum(gradients(nested, tiny, [Pass(0.25, ranks)], examples) for ranks in rotations)
    summed = gradients(nested, tiny, plan_step("sum", {2: 0.25, 8: 0.75}, 4, np.random.default_rng(0)), examples)
    assert isinstance(mean, torch.Tensor)
    torch.testing.assert_close(mean, summed, atol=1e-6, rtol=1e-4)


@given(batch_size=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_stratified_gives_every_tier_its_share_of_the_batch_within_one_example(batch_size: int, seed: int):
    (only,) = plan_step("stratified", WEIGHTS, batch_size, np.random.default_rng(seed))
    assert isinstance(only.ranks, list) and len(only.ranks) == batch_size and only.weight == 1
    counts = Counter(only.ranks)
    for r, weight in WEIGHTS.items():
        assert abs(counts[r] - weight * batch_size) < 1 + 1e-9


@pytest.mark.parametrize("objective", ["sum", "sampled", "stratified"])
def test_on_average_every_objective_weights_the_tiers_by_lambda(objective: Objective):
    rng = np.random.default_rng(0)
    draws, batch_size = 4000, 3
    seen = dict.fromkeys(WEIGHTS, 0.0)
    for _ in range(draws):
        for each in plan_step(objective, WEIGHTS, batch_size, rng):
            for r in each.ranks if isinstance(each.ranks, list) else [each.ranks] * batch_size:
                seen[r] += each.weight / batch_size / draws
    assert seen == pytest.approx(WEIGHTS, abs=0.03)


def test_the_order_of_tiers_within_a_batch_is_shuffled():
    rng = np.random.default_rng(0)
    first = dict.fromkeys(WEIGHTS, 0.0)
    for _ in range(400):
        (only,) = plan_step("stratified", WEIGHTS, 10, rng)
        assert isinstance(only.ranks, list)
        first[only.ranks[0]] += 1 / 400
    assert first == pytest.approx(WEIGHTS, abs=0.08)


def test_passes_count_what_each_objective_costs(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    passes = {objective: fit(nested, tiny, 8, replace(FIT, objective=objective))[0].passes for objective in OBJECTIVES}
    assert passes == {"none": 4, "sum": 16, "sampled": 4, "stratified": 4}


def test_the_lower_tiers_share_evenly_what_the_full_weight_leaves():
    assert tier_weights((1, 2, 4, 8), 4, 0.5) == {1: 0.25, 2: 0.25, 4: 0.5}
    assert tier_weights((1, 2, 4, 8), 4, None) == pytest.approx({1: 1 / 3, 2: 1 / 3, 4: 1 / 3})
    assert tier_weights((1, 2, 4, 8), 1, 0.5) == {1: 1.0}
    assert tier_weights((1, 2), 2, 1.0) == {1: 0.0, 2: 1.0}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_full_weight_of_one_is_plain_training(objective: Objective):
    assert plan_step(objective, tier_weights((1, 2), 2, 1.0), 4, np.random.default_rng(0)) == [Pass(1.0, 2)]


def test_zero_local_steps_give_a_delta_of_zero_bytes(tiny: Path):
    trained, rows, dense = fit(nested_of(tiny, "sequence-classification"), tiny, 4, replace(FIT, local_steps=0))
    assert trained == Trained(0, None, None)
    assert not any(rows.numpy().tobytes()) and not any(dense.numpy().tobytes())


@pytest.mark.parametrize("task", TASKS)
def test_the_same_fit_gives_the_same_bytes_after_other_fits_and_with_other_tiers_there(tiny: Path, task: str):
    spec = replace(FIT, objective="sampled")
    lora = replace(LORA, lora_dropout=0.2)
    used = nested_of(tiny, task, lora)
    fit(used, tiny, 8, replace(spec, objective="sum"), "c00")
    fit(used, tiny, 2, spec)
    fit(used, tiny, 4, spec, "c02")
    trained, rows, dense = fit(used, tiny, 4, spec)
    fresh = nested_of(tiny, task, LoraSpec(4, [1, 2, 4], 2.0, "all-linear", None, 0.2))
    fresh_trained, fresh_rows, fresh_dense = fit(fresh, tiny, 4, spec)
    assert trained == fresh_trained
    assert torch.equal(rows, fresh_rows) and torch.equal(dense, fresh_dense)


def test_a_client_with_less_than_a_batch_continues_with_its_next_permutation():
    first, second = islice(endless_batches(range(10, 13), 4, np.random.default_rng(0)), 2)
    assert sorted(first[:3]) == [10, 11, 12]
    assert sorted([first[3], *second[:2]]) == [10, 11, 12]


def test_training_lowers_the_loss_of_the_full_rank(tiny: Path):
    nested = nested_of(tiny, "sequence-classification")
    spec = replace(FIT, objective="none", local_steps=30, head_lr=5e-2)
    first, _, _ = fit(nested, tiny, 8, replace(spec, local_steps=1))
    last, _, _ = fit(nested, tiny, 8, spec)
    assert first.loss is not None and last.loss is not None and last.loss < first.loss


def test_every_tier_is_a_tier_of_the_specs():
    assert list(WEIGHTS) == TIERS


def split(nested: NestedLora, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All A's entries and all B's."""
    is_a = torch.cat([torch.arange(module.width) < module.shape.in_ for module in nested.modules])
    return rows[:, is_a], rows[:, ~is_a]


@pytest.mark.parametrize("task", TASKS)
def test_with_a_frozen_only_b_and_the_head_train_and_the_delta_of_a_is_zero(tiny: Path, task: str):
    nested = nested_of(tiny, task)
    _, rows, dense = fit(nested, tiny, 4, replace(FIT, freeze_a=True, tail_penalty=0.1))
    a, b = split(nested, rows)
    assert not any(a.numpy().tobytes()) and b.all()
    assert len(dense) == 0 or dense.any()


def test_a_fit_after_one_with_a_frozen_trains_both(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    before = fit(nested, tiny, 4, FIT)[1]
    fit(nested, tiny, 4, replace(FIT, freeze_a=True))
    assert torch.equal(fit(nested, tiny, 4, FIT)[1], before)


def penalised(nested: NestedLora, r: int, rows: torch.Tensor) -> float:
    """Σ ‖B[:, ρ:]‖·‖A[ρ:, :]‖ from the rows, in float64."""
    tail, offset, total = rows.double()[r // 2 :], 0, 0.0
    for module in nested.modules:
        a, b = tail[:, offset : offset + module.shape.in_], tail[:, offset + module.shape.in_ : offset + module.width]
        total += float((a**2).sum().sqrt() * (b**2).sum().sqrt())
        offset += module.width
    return total


def test_the_tail_is_the_components_above_the_tier_below(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    for r in TIERS[1:]:
        rows, dense = random_adapter(nested, r)
        write(nested, r, rows, dense)
        assert tail_norm(nested, r).item() == pytest.approx(penalised(nested, r, rows), rel=1e-5)


def test_the_penalty_is_added_once_per_step_however_many_passes(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    nested, added = nested_of(tiny, "causal-lm"), []

    def counted(*arguments):
        added.append(arguments[1])
        return tail_norm(*arguments)

    monkeypatch.setattr("prelort_worker.training.train.tail_norm", counted)
    fit(nested, tiny, 8, replace(FIT, objective="sum", tail_penalty=0.1))
    assert added == [8] * FIT.local_steps
    fit(nested, tiny, 1, replace(FIT, tail_penalty=0.1))
    fit(nested, tiny, 8, FIT)
    assert len(added) == FIT.local_steps


def test_a_penalty_shrinks_the_tail_but_not_the_lowest_tier_or_the_reported_losses(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    spec = replace(FIT, objective="none", local_steps=1)
    received = random_adapter(nested, 8)[0]
    plain, plain_delta, _ = fit(nested, tiny, 8, spec)
    trained, delta, _ = fit(nested, tiny, 8, replace(spec, tail_penalty=100.0))
    assert penalised(nested, 8, received + delta) < penalised(nested, 8, received)
    assert penalised(nested, 8, received + delta) < penalised(nested, 8, received + plain_delta)
    assert torch.equal(delta[:4], plain_delta[:4])
    assert trained == plain
    assert torch.equal(fit(nested, tiny, 1, spec)[1], fit(nested, tiny, 1, replace(spec, tail_penalty=100.0))[1])


def test_a_penalty_of_b_at_zero_gives_no_nan(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    rows, dense = random_adapter(nested, 8)
    is_b = torch.cat([torch.arange(module.width) >= module.shape.in_ for module in nested.modules])
    write(nested, 8, rows.masked_fill(is_b, 0.0), dense)
    dataset = dataset_of(tiny, "causal-lm")
    spec = replace(FIT, tail_penalty=0.1)
    trained = train(nested, 8, dataset, dataset.of_client("c01"), spec, SEED, lambda _step, _steps: None)
    assert trained.loss is not None and np.isfinite(trained.loss)
    assert read(nested, 8)[0].isfinite().all()


def test_the_rms_loss_is_the_root_of_the_mean_squared_loss_of_the_steps(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    spec = replace(FIT, objective="none", lr=0.0, lr_b=0.0)
    dataset = dataset_of(tiny, "causal-lm")
    batches = endless_batches(dataset.of_client("c01"), spec.batch_size, np.random.default_rng(derive(SEED, "order")))
    trained, _, _ = fit(nested, tiny, 8, spec)
    with torch.no_grad():
        losses = [
            mean_loss(nested, collate(nested.task, dataset, examples, CPU)).item()
            for examples in islice(batches, spec.local_steps)
        ]
    assert trained.rms_loss == pytest.approx(np.sqrt(np.mean(np.square(losses))), rel=1e-6)
    assert trained.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert len(set(losses)) == spec.local_steps


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulating_over_micro_batches_is_one_large_batch_to_rounding(tiny: Path, task: str, objective: Objective):
    nested = nested_of(tiny, task)
    large = fit(nested, tiny, 8, replace(FIT, objective=objective, batch_size=12))
    micro = fit(nested, tiny, 8, replace(FIT, objective=objective, batch_size=4, gradient_accumulation_steps=3))
    assert micro[0].passes == large[0].passes and micro[0].loss == pytest.approx(large[0].loss, rel=1e-5)
    assert_alike(micro, large)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_checkpointing_trains_alike_with_dropout_and_is_off_again_after(tiny: Path, task: str, objective: Objective):
    nested = nested_of(tiny, task, replace(LORA, lora_dropout=0.2))
    spec = replace(FIT, objective=objective)
    kept = fit(nested, tiny, 8, spec)
    counted = count_forwards(nested)
    assert_alike(fit(nested, tiny, 8, replace(spec, gradient_checkpointing=True)), kept)
    recomputed = counted[0]
    counted[0] = 0
    fit(nested, tiny, 8, spec)
    assert recomputed == 2 * counted[0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_bf16_base_computes_in_bf16_and_trains_f32_weights_to_finite_values(
    tiny: Path, task: str, objective: Objective
):
    nested = nested_of(tiny, task, dtype="bf16")
    assert {value.dtype for value in [*lora_parameters(nested, 8), *dense_parameters(nested, 8)]} == {torch.float32}
    assert all(module.pristine.dtype == torch.bfloat16 for module in nested.modules)
    trained, rows, dense = fit(nested, tiny, 8, replace(FIT, objective=objective))
    plain, _, _ = fit(nested_of(tiny, task), tiny, 8, replace(FIT, objective=objective))
    assert trained.loss == pytest.approx(plain.loss, rel=0.02) and trained.loss != plain.loss
    assert rows.isfinite().all() and rows.any() and dense.isfinite().all()
    assert fit(nested, tiny, 8, replace(FIT, objective=objective))[0] == trained


def test_a_bf16_step_keeps_half_as_much_of_each_activation(tiny: Path):
    nested = nested_of(tiny, "causal-lm", dtype="bf16")
    seen = set()
    layer: Any = nested.modules[0].layer
    with_hook = layer.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    fit(nested, tiny, 8, FIT)
    with_hook.remove()
    assert seen == {torch.bfloat16}


def test_batches_by_length_hold_every_example_once_per_permutation_with_little_padding():
    lengths = [3, 90, 4, 5, 91, 92, 40, 41, 42]
    batches = list(islice(batches_by_length(range(9), 3, np.random.default_rng(0), lengths.__getitem__), 6))
    for permutation in (batches[:3], batches[3:]):
        assert sorted(map(sorted, permutation)) == [[0, 2, 3], [1, 4, 5], [6, 7, 8]]


def test_a_client_with_less_than_a_batch_has_batches_by_length_too():
    (batch,) = islice(batches_by_length(range(10, 13), 4, np.random.default_rng(0), lambda index: index), 1)
    assert len(batch) == 4 and set(batch) == {10, 11, 12}


def test_a_client_with_less_than_two_batches_has_them_sorted_too():
    first, second = islice(batches_by_length(range(7), 4, np.random.default_rng(0), lambda index: index), 2)
    low, high = sorted((first, second))
    assert max(low) <= min(high) and {*low, *high} == set(range(7))


def test_the_order_of_batches_by_length_is_shuffled():
    firsts = {
        next(batches_by_length(range(40), 4, np.random.default_rng(seed), lambda index: index))[0] for seed in range(20)
    }
    assert len(firsts) > 5


def test_group_by_length_trains_on_batches_of_similar_length(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    def padding(group_by_length: bool) -> float:
        shapes = []

        def noted(task, dataset, examples, device):
            batch = collate(task, dataset, examples, device)
            shapes.append(batch.tensors["attention_mask"].float().mean().item())
            return batch

        monkeypatch.setattr("prelort_worker.training.train.collate", noted)
        spec = replace(FIT, batch_size=4, local_steps=8, group_by_length=group_by_length)
        fit(nested_of(tiny, "causal-lm"), tiny, 4, spec)
        return 1 - float(np.mean(shapes))

    assert padding(True) < padding(False)


def assert_alike(
    ours: tuple[Trained, torch.Tensor, torch.Tensor], theirs: tuple[Trained, torch.Tensor, torch.Tensor]
) -> None:
    """The first steps of AdamW amplify a rounding where a gradient is near zero: most weights agree closely."""
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        if len(a):
            assert ((a - b).abs() > 1e-4).double().mean() < 0.01


def count_forwards(nested: NestedLora) -> list[int]:
    count = [0]

    def counted(*_: object) -> None:
        count[0] += 1

    layer: Any = nested.modules[0].layer
    layer.register_forward_hook(counted)
    return count
