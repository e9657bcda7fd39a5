"""Faults of this field's public code (a load that loads nothing, A taken for B) that a worker must not have."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import CPU, base_of, nested_of, random_adapter, tiny_gpt2
from peft import PeftModel, get_peft_model_state_dict
from prelort_worker.errors import InputError
from prelort_worker.tasks.find import find_task
from prelort_worker.training.nested_lora import activate, write
from prelort_worker.wire.specs import LoraSpec
from safetensors.torch import load_file, save_file
from specs import LORA, TASKS, model_spec

# Both are 32 × 32.
SQUARE = LoraSpec(32, [16, 32], 0.5, ["q_proj", "o_proj"], None, 0.0)


def test_a_checkpoint_with_other_parameter_names_is_refused_instead_of_loading_nothing(tiny: Path, tmp_path: Path):
    tiny_gpt2().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace(".c_attn.", ".attention."): value for name, value in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"\btransformer\.h\.0\.attn\.c_attn\.bias, .*c_attn\.weight\b"):
        find_task(model_spec(tiny, "causal-lm", name_or_path=str(tmp_path)), CPU).build_model()


@pytest.mark.parametrize("task", TASKS)
def test_loading_an_adapter_changes_every_parameter_of_its_tier_and_no_other_tier(tiny: Path, task: str):
    nested = nested_of(tiny, task)
    before = {r: get_peft_model_state_dict(nested.model, adapter_name=f"r{r}") for r in nested.tiers}
    before = {r: {name: value.clone() for name, value in state.items()} for r, state in before.items()}
    write(nested, 4, *random_adapter(nested, 4))
    for r, state in before.items():
        after = get_peft_model_state_dict(nested.model, adapter_name=f"r{r}")
        changed = {name for name, value in after.items() if not torch.equal(value, state[name])}
        assert changed == (set(after) if r == 4 else set())


@torch.no_grad()
def test_a_and_b_are_told_apart_by_name_when_a_dimension_equals_the_rank(tiny: Path, tmp_path: Path):
    nested = nested_of(tiny, "causal-lm", SQUARE)
    rows, dense = random_adapter(nested, 32)
    write(nested, 32, rows, dense)
    state = get_peft_model_state_dict(nested.model, adapter_name="r32")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    assert torch.equal(state[f"{name}.lora_A.weight"], rows[:, :32])
    assert torch.equal(state[f"{name}.lora_B.weight"], rows[:, 32:64].T)

    tokens = torch.arange(20).view(2, 10)
    activate(nested, 32)
    nested.model.eval()
    expected = nested.model(input_ids=tokens).logits
    write(nested, 32, torch.cat([rows[:, 32:64], rows[:, :32], rows[:, 64:]], 1), dense)
    assert not torch.allclose(nested.model(input_ids=tokens).logits, expected, atol=5e-4)
    write(nested, 32, rows, dense)
    nested.model.save_pretrained(str(tmp_path), selected_adapters=["r32"])
    loaded = PeftModel.from_pretrained(base_of(tiny, "causal-lm"), str(tmp_path / "r32")).eval()
    torch.testing.assert_close(loaded(input_ids=tokens).logits, expected, atol=1e-5, rtol=0)


def test_one_row_is_not_broadcast_over_an_adapter_of_higher_rank(tiny: Path):
    nested = nested_of(tiny, "causal-lm", replace(LORA, tiers=[1, 8]))
    rows, dense = random_adapter(nested, 1)
    with pytest.raises(ValueError, match=r"rows: expected shape \[8, 1024\], got \[1, 1024\]"):
        write(nested, 8, rows, dense)
