"""Buffers of the frozen model stay as they were loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import write_mobilevit
from models_for_tests import CPU, Up, come_up
from PIL import Image
from prelort_worker.errors import InputError
from prelort_worker.training.buffers import copy_buffers, restore_buffers, unchanged_buffers
from prelort_worker.training.nested_lora import set_training
from specs import FIT, LORA, data_spec, model_spec
from torch import Tensor, nn

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
# Patches of one picture are rows of their own, which stratified cannot tell apart.
SUM = replace(FIT, objective="sum")
OWN_TASK = """
import torch
from prelort_worker.tasks.sequence_classification import SequenceClassification
from torch import nn

{modules}

class Restless(SequenceClassification):
    def build_model(self, on_meta=False):
        model = super().build_model(on_meta)
        add(model)
        return model
"""
# Each changes a buffer in every forward pass in training mode.
SPECTRAL_NORM = """
def add(model):
    nn.utils.parametrizations.spectral_norm(model.bert.embeddings.word_embeddings)
"""
OLD_SPECTRAL_NORM = """
def add(model):
    nn.utils.spectral_norm(model.bert.embeddings.word_embeddings)
"""
CODEBOOK = """
class Codebook(nn.Module):
    def __init__(self, persistent):
        super().__init__()
        self.dropout = nn.Dropout(0.25)
        self.register_buffer("codes", torch.zeros(32), persistent)

    def forward(self, hidden):
        if self.training:
            self.codes = 0.9 * self.codes + 0.1 * hidden.detach().mean((0, 1))
        return self.dropout(hidden - self.codes)

def add(model):
    model.bert.embeddings.LayerNorm = nn.Sequential(model.bert.embeddings.LayerNorm, Codebook({persistent}))
"""
COUNTER = """
class Counter(nn.Identity):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, hidden):
        self.steps += 1
        return hidden

def add(model):
    model.bert.embeddings.LayerNorm = nn.Sequential(model.bert.embeddings.LayerNorm, Counter())
"""


@pytest.fixture(scope="module")
def mobilevit(tmp_path_factory: pytest.TempPathFactory) -> Up:
    folder = tmp_path_factory.mktemp("mobilevit")
    write_mobilevit(folder / "model")
    for colour, rgb in COLOURS.items():
        (folder / "pictures" / colour).mkdir(parents=True)
        for number in range(12):
            shade = tuple(min(255, value + 8 * number) for value in rgb)
            Image.new("RGB", (32, 32), shade).save(folder / "pictures" / colour / f"{number:02d}.png")
    changes: dict[str, Any] = {"path": str(folder / "pictures"), "label": "folder", "text": None, "image": "image"}
    data = data_spec(folder, "image-classification", clients=2, eval_examples=9, **changes)
    model = model_spec(folder, "image-classification", name_or_path=str(folder / "model"))
    return come_up(model, LORA, data, folder / "cache")


def own_task(folder: Path, tiny: Path, modules: str) -> Up:
    """A task of one's own over the tiny BERT."""
    (folder / "restless.py").write_text(OWN_TASK.format(modules=modules))
    model = model_spec(tiny, "restless:Restless", task_folder=str(folder), name_or_path=str(tiny / "tiny-bert"))
    return come_up(model, LORA, data_spec(tiny, "restless:Restless", clients=2), folder / "cache")


def bytes_of(buffers: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in buffers.items()}


def test_a_fit_does_not_change_running_statistics(mobilevit: Up):
    model = mobilevit.nested.model
    before = bytes_of(copy_buffers(model))
    assert sum(name.endswith("running_mean") for name in before) > 5
    judged = mobilevit.evaluate([1, 8])
    fitted, delta = mobilevit.fit("c00", 8, SUM)
    assert bytes_of(copy_buffers(model)) == before
    assert mobilevit.evaluate([1, 8]) == judged
    assert fitted.loss is not None and any(delta["rows"].data)


def test_a_fit_gives_the_same_result_after_another_clients_fit(mobilevit: Up):
    fitted, delta = mobilevit.fit("c00", 8, SUM)
    mobilevit.fit("c01", 4, SUM)
    again, same_delta = mobilevit.fit("c00", 8, SUM)
    assert again.loss == fitted.loss
    assert {name: bytes(each.data) for name, each in same_delta.items()} == {
        name: bytes(each.data) for name, each in delta.items()
    }


def test_norms_are_in_evaluation_mode_during_training_but_dropout_is_not(mobilevit: Up):
    set_training(mobilevit.nested)
    modes = {(type(module).__name__, module.training) for module in mobilevit.nested.model.modules()}
    assert ("BatchNorm2d", False) in modes and ("BatchNorm2d", True) not in modes
    assert ("Dropout", True) in modes and ("Dropout", False) not in modes


@pytest.mark.parametrize(
    "modules",
    [
        SPECTRAL_NORM,
        OLD_SPECTRAL_NORM,
        CODEBOOK.replace("{persistent}", "True"),
        CODEBOOK.replace("{persistent}", "False"),
    ],
    ids=["spectral norm", "spectral norm by hooks", "codebook", "codebook in no checkpoint"],
)
def test_modules_that_track_statistics_are_kept_in_evaluation_mode(tiny: Path, tmp_path: Path, modules: str):
    up = own_task(tmp_path, tiny, modules)
    before = bytes_of(copy_buffers(up.nested.model))
    judged = up.evaluate([1, 8])
    up.fit("c00", 8, FIT)
    assert bytes_of(copy_buffers(up.nested.model)) == before
    assert up.evaluate([1, 8]) == judged
    set_training(up.nested)
    assert all(module.training for module in up.nested.model.modules() if isinstance(module, nn.Dropout))


def test_a_module_that_always_changes_its_buffers_is_refused_by_name(tiny: Path, tmp_path: Path):
    up = own_task(tmp_path, tiny, COUNTER)
    before = bytes_of(copy_buffers(up.nested.model))
    told = r"bert\.embeddings\.LayerNorm\.1\.steps .*\bCounter\b"
    with pytest.raises(InputError, match=told) as refused:
        up.fit("c00", 8, FIT)
    assert refused.value.problems[0][0] == "model.name_or_path"
    with pytest.raises(InputError, match=told):
        up.evaluate([8])
    after = bytes_of(copy_buffers(up.nested.model))
    assert {name: after[name] for name in before} == before
    assert all(not value.any() for name, value in copy_buffers(up.nested.model).items() if name.endswith(".steps"))


def test_statistics_of_a_module_trained_in_full_do_not_change_but_its_weights_do(tiny: Path, tmp_path: Path):
    modules = """
def add(model):
    head = nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, model.num_labels))
    model.classifier = head
"""
    up = own_task(tmp_path, tiny, modules)
    assert [(shape.name, shape.shape) for shape in up.loaded.dense][:2] == [
        ("classifier.0.weight", [32]),
        ("classifier.0.bias", [32]),
    ]
    before = bytes_of(copy_buffers(up.nested.model))
    _, delta = up.fit("c00", 8, FIT)
    assert bytes_of(copy_buffers(up.nested.model)) == before
    dense = torch.frombuffer(bytearray(delta["dense"].data), dtype=torch.float32)
    assert dense[:32].abs().min() > 0


def test_changed_buffers_are_restored_even_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    model[0].running_var = torch.tensor([float("nan"), 1.0])
    before = bytes_of(copy_buffers(model))
    with unchanged_buffers(model):
        model[1](torch.randn(4, 2))
    with pytest.raises(ZeroDivisionError), unchanged_buffers(model):
        model(torch.randn(4, 2, device=CPU))
        model[0].running_mean = torch.zeros(3)
        raise ZeroDivisionError
    assert bytes_of(copy_buffers(model)) == before
    copies = copy_buffers(model)
    model(torch.randn(4, 2))
    assert set(restore_buffers(model, copies)) >= {"0.running_mean", "0.num_batches_tracked"}
    assert bytes_of(copy_buffers(model)) == before
