"""Base models: what is loaded, and what a classifier reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from models_for_tests import CPU
from prelort_worker.models import MeanPooledClassifier
from prelort_worker.prepared_dataset import DatasetInfo
from prelort_worker.training.build import build_nested
from prelort_worker.training.nested_lora import NestedLora, read
from specs import LORA, SEED, model_spec

LABELS = ["animal", "food", "tool"]


def wrapped(tiny: Path) -> NestedLora:
    info = DatasetInfo("sequence-classification", LABELS, 0, 0)
    lora = replace(LORA, target_modules=["query", "value"])
    return build_nested(model_spec(tiny, info.task, pooling="mean"), lora, info, CPU, SEED)


def load(tiny: Path) -> MeanPooledClassifier:
    return MeanPooledClassifier.from_encoder(str(tiny / "tiny-bert"), len(LABELS)).eval()


def test_a_mean_pooled_classifier_averages_an_examples_own_tokens(tiny: Path) -> None:
    base = load(tiny)
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    hidden = base.encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    expected = base.classifier(hidden[0].mean(0))
    assert torch.allclose(base(tokens, torch.ones_like(tokens)).logits[0], expected, atol=1e-6)


def test_padding_changes_no_logit_of_a_mean_pooled_classifier(tiny: Path) -> None:
    base = load(tiny)
    tokens = torch.tensor([[5, 6, 7, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]])
    short = base(tokens[:, :3], mask[:, :3]).logits
    assert torch.allclose(base(tokens, mask).logits, short, atol=1e-6)


def test_only_its_head_is_sent_with_the_adapter_and_every_worker_draws_the_same_one(tiny: Path) -> None:
    nested = wrapped(tiny)
    assert isinstance(nested.model.get_base_model(), MeanPooledClassifier)
    assert [(each.name, each.shape) for each in nested.dense_shapes] == [
        ("classifier.weight", [len(LABELS), 32]),
        ("classifier.bias", [len(LABELS)]),
    ]
    assert torch.equal(read(nested, LORA.r)[1], read(wrapped(tiny), LORA.r)[1])


def test_a_mean_pooled_classifier_keeps_its_labels(tiny: Path) -> None:
    base: Any = wrapped(tiny).model.get_base_model()
    assert base.config.id2label == dict(enumerate(LABELS))
