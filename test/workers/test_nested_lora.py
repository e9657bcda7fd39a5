"""How an adapter lies in a PEFT model, and how it acts cut to a prefix."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import CPU, base_of, dataset_of, nested_of, random_adapter, tiny_gpt2, wrapped_gpt2
from peft import PeftModel
from prelort_worker.errors import InputError
from prelort_worker.tasks.find import find_task
from prelort_worker.training.batches import collate
from prelort_worker.training.nested_lora import NestedLora, activate, lora_parameters, read, truncated, write
from prelort_worker.wire.messages import ModuleShape
from prelort_worker.wire.specs import LoraSpec
from specs import LORA, TASKS, TIERS, model_spec
from torch import nn


def logits(nested: NestedLora, folder: Path, r: int) -> torch.Tensor:
    batch = collate(nested.task, dataset_of(folder, nested.task.model.task), range(6), CPU)
    activate(nested, r)
    nested.model.eval()
    with torch.no_grad():
        return nested.task.forward(nested.model, batch.tensors).logits


@pytest.mark.parametrize("task", TASKS)
def test_rows_and_dense_are_read_back_as_written_at_every_tier(tiny: Path, task: str):
    nested = nested_of(tiny, task)
    for r in TIERS:
        rows, dense = random_adapter(nested, r, seed=r)
        write(nested, r, rows, dense)
    for r in TIERS:
        rows, dense = random_adapter(nested, r, seed=r)
        back_rows, back_dense = read(nested, r)
        assert torch.equal(back_rows, rows) and torch.equal(back_dense, dense)


def test_a_row_holds_component_j_of_every_module_a_then_b(tiny: Path):
    nested = nested_of(tiny, "causal-lm", replace(LORA, target_modules=["q_proj", "v_proj"]))
    assert [module.shape for module in nested.modules] == [
        ModuleShape("model.layers.0.self_attn.q_proj", 32, 32),
        ModuleShape("model.layers.0.self_attn.v_proj", 32, 16),
        ModuleShape("model.layers.1.self_attn.q_proj", 32, 32),
        ModuleShape("model.layers.1.self_attn.v_proj", 32, 16),
    ]
    rows, dense = random_adapter(nested, 4)
    write(nested, 4, rows, dense)
    a, b = lora_parameters(nested, 4)[2:4]
    assert torch.equal(a[3], rows[3, 64:96]) and torch.equal(b[:, 3], rows[3, 96:112])


def test_a_classifiers_head_is_its_dense_part(tiny: Path):
    nested = nested_of(tiny, "sequence-classification")
    assert [(part.name, part.shape) for part in nested.dense_shapes] == [
        ("classifier.weight", [4, 32]),
        ("classifier.bias", [4]),
    ]
    head = nested.model.get_base_model().get_submodule("classifier.original_module")
    _, dense = read(nested, 8)
    assert torch.equal(dense, torch.cat([value.reshape(-1) for value in head.parameters()]))


@pytest.mark.parametrize("task", TASKS)
def test_a_prefix_by_mask_is_the_physical_adapter_of_its_tier(tiny: Path, task: str):
    nested = nested_of(tiny, task)
    rows, dense = random_adapter(nested, 8)
    write(nested, 8, rows, dense)
    by_tier = {}
    for r in TIERS[:-1]:
        write(nested, r, rows[:r], dense)
        by_tier[r] = logits(nested, tiny, r)
        with truncated(nested, 8, r):
            torch.testing.assert_close(logits(nested, tiny, 8), by_tier[r], atol=1e-6, rtol=0)
    by_tier[8] = logits(nested, tiny, 8)
    assert not torch.allclose(by_tier[8], by_tier[1], atol=1e-3)
    with truncated(nested, 8, [1, 2, 4, 8, 1, 2]):
        mixed = logits(nested, tiny, 8)
    for example, r in enumerate([1, 2, 4, 8, 1, 2]):
        torch.testing.assert_close(mixed[example], by_tier[r][example], atol=1e-6, rtol=0)


def test_every_tier_has_exactly_the_same_scale(tiny: Path):
    nested = nested_of(tiny, "causal-lm", LoraSpec(7, [1, 3, 7], 0.3, ["q_proj"], None, 0.0))
    assert {value for module in nested.modules for value in module.layer.scaling.values()} == {0.3}


def test_an_adapter_saved_by_peft_gives_the_workers_own_logits(tiny: Path, tmp_path: Path):
    nested = nested_of(tiny, "sequence-classification")
    write(nested, 4, *random_adapter(nested, 4))
    expected = logits(nested, tiny, 4)
    nested.model.save_pretrained(str(tmp_path), selected_adapters=["r4"])
    base = base_of(tiny, "sequence-classification", "another seed")
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "r4")).eval()
    batch = collate(nested.task, dataset_of(tiny, "sequence-classification"), range(6), CPU)
    with torch.no_grad():
        found = nested.task.forward(loaded, batch.tensors).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gpt2s_conv1d_is_laid_out_by_its_inputs_and_outputs():
    nested = wrapped_gpt2(replace(LORA, target_modules=["c_attn"]))
    assert [module.shape for module in nested.modules] == [ModuleShape("transformer.h.0.attn.c_attn", 32, 96)]
    rows, dense = random_adapter(nested, 8)
    write(nested, 8, rows, dense)
    write(nested, 2, rows[:2], dense)
    tokens = torch.arange(20).view(2, 10)
    nested.model.eval()
    activate(nested, 8)
    with torch.no_grad(), truncated(nested, 8, 2):
        by_mask = nested.model(input_ids=tokens).logits
    activate(nested, 2)
    with torch.no_grad():
        torch.testing.assert_close(by_mask, nested.model(input_ids=tokens).logits, atol=1e-6, rtol=0)


def test_a_module_that_is_not_linear_is_refused_by_name():
    expected = r"\btransformer\.wte\b.*\bEmbedding\b.*\bnn\.Linear\b"
    with pytest.raises(ValueError, match=expected):
        wrapped_gpt2(replace(LORA, target_modules=["wte"]))


@pytest.mark.parametrize(
    ("targets", "named"),
    [(["q_proj", "c_attn", "value"], "q_proj or value"), (["attn_c"], "attn_c"), (r".*\.q_proj", r".*\.q_proj")],
)
def test_a_target_that_matches_nothing_is_refused_with_a_list_of_linear_modules(targets: str | list[str], named: str):
    with pytest.raises(InputError) as refused:
        wrapped_gpt2(replace(LORA, target_modules=targets))
    ((option, message),) = refused.value.problems
    assert option == "lora.target_modules"
    assert f" {named};" in message and message.endswith(" c_attn, c_proj, c_fc")


def test_targets_are_full_names_suffixes_after_a_dot_or_patterns_over_full_names():
    for targets in (["c_attn"], ["attn.c_attn"], ["transformer.h.0.attn.c_attn"], r".*\.c_attn"):
        nested = wrapped_gpt2(replace(LORA, target_modules=targets))
        assert [module.shape.name for module in nested.modules] == ["transformer.h.0.attn.c_attn"]
    with pytest.raises(InputError, match=r"\( .*: missing \), unterminated subpattern"):
        wrapped_gpt2(replace(LORA, target_modules="("))


def test_missing_modules_to_save_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\bpooler\b.*\bGPT2LMHeadModel\b"):
        wrapped_gpt2(replace(LORA, target_modules=["c_attn"], modules_to_save=["pooler"]))


def test_truncation_per_example_needs_a_module_that_sees_examples_separately(tiny: Path):
    nested = nested_of(tiny, "causal-lm")
    hooked = nested.modules[0].layer.lora_A["r8"]
    assert isinstance(hooked, nn.Module)
    with truncated(nested, 8, [1, 2]), pytest.raises(ValueError, match=r"\b6 rows\b.*\b2 examples\b"):
        hooked(torch.zeros(6, 32))


def test_a_checkpoint_that_lacks_frozen_parameters_is_refused_by_name(tiny: Path, tmp_path: Path):
    tiny_gpt2().save_pretrained(tmp_path)
    task = find_task(model_spec(tiny, "causal-lm", name_or_path=str(tmp_path)), CPU)
    task.build_model()
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    del weights["transformer.ln_f.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"\btransformer\.ln_f\.weight\b"):
        task.build_model()
    task.modules_to_save = ["ln_f"]
    task.build_model()
