"""A label for a picture, from PNG files to accuracy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import Up, come_up, task_of
from more_models import write_vit
from PIL import Image
from prelort_worker.errors import InputError
from prelort_worker.rows.row import Row
from prelort_worker.wire.specs import DataSpec, ModelSpec
from specs import FIT, LORA, data_spec, model_spec

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
# Of each colour.
N = 12


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each colour, of pictures of several sizes and modes."""
    folder = tmp_path_factory.mktemp("pictures")
    for colour, rgb in COLOURS.items():
        (folder / colour).mkdir()
        for number in range(N):
            shade = tuple(min(255, value + 8 * number) for value in rgb)
            picture = Image.new("RGB", (12 + number, 20), shade)
            (picture if number else picture.convert("P")).save(folder / colour / f"{number:02d}.png")
    return folder


def model_of(folder: Path) -> ModelSpec:
    return model_spec(folder, "image-classification", name_or_path=str(folder))


def data_of(path: Path, **changes: Any) -> DataSpec:
    asked = {"path": str(path), "label": "folder", "text": None, "image": "image", "clients": 2, "eval_examples": 9}
    return data_spec(path, "image-classification", **{**asked, **changes})


@pytest.fixture(scope="module")
def up(vit: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Up:
    return come_up(model_of(vit), LORA, data_of(pictures), tmp_path_factory.mktemp("cache"))


def test_folders_of_pictures_are_clients_with_labels(up: Up):
    assert up.prepared.labels == ["blue", "green", "red"]
    assert [client.n for client in up.prepared.clients] == [14, 13] and up.prepared.n_eval == 9
    assert all(sum(client.label_counts) == client.n for client in up.prepared.clients)
    assert all(client.n_tokens == 0 for client in up.prepared.clients)
    pixels = up.dataset.fields["pixel_values"]
    assert list(pixels.shape) == [36, 3, 16, 16] and pixels.dtype == torch.uint8
    for index in range(36):
        label = up.dataset.info.labels[int(up.dataset.fields["labels"][index])]
        # Whatever its mode was, its own channel is full.
        assert int(pixels[index, ["red", "green", "blue"].index(label)].float().mean()) == 255


def test_the_model_gets_the_same_input_as_from_its_processor(up: Up, pictures: Path):
    task: Any = up.nested.task
    paths = sorted(pictures.glob("*/*.png"))[:3]
    rows = [Row(str(path), {"image": str(path), "folder": path.parent.name}) for path in paths]
    examples = task.encode(rows, data_of(pictures), lambda _done, _of: None)
    batch = task.collate(examples)
    expected = task.processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
    torch.testing.assert_close(batch["pixel_values"], expected["pixel_values"], atol=1e-6, rtol=0)
    assert batch["labels"].tolist() == [0, 0, 0]


def test_a_picture_is_a_path_or_bytes_or_a_map_of_either(vit: Path, pictures: Path):
    task = task_of(model_of(vit), vit)
    task.labels = ["red"]
    path = pictures / "red" / "00.png"
    picture = Image.open(path)
    values = [
        str(path),
        path.read_bytes(),
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
        picture,
    ]
    rows = [Row(f"a:{index}", {"image": value, "folder": "red"}) for index, value in enumerate(values)]
    examples = task.encode(rows, data_of(pictures), lambda _done, _of: None)
    assert all(torch.equal(example["pixel_values"], examples[0]["pixel_values"]) for example in examples)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no picture", r"column 'image' is not a readable image: cannot identify"),
        ("gone.png", r"column 'image' is not a readable image: .*No such file"),
        (7, r"column 'image' .*\bint\b"),
        (None, r"column 'image' .*\bNoneType\b"),
    ],
)
def test_an_unreadable_image_is_reported_with_its_row(vit: Path, pictures: Path, value: Any, reason: str):
    task = task_of(model_of(vit), vit)
    task.labels = ["red"]
    with pytest.raises(InputError, match=rf"a:7: {reason}") as refused:
        task.encode([Row("a:7", {"image": value, "folder": "red"})], data_of(pictures), lambda _done, _of: None)
    assert refused.value.problems[0][0] == "data.image"


def test_the_head_is_sent_with_the_adapter(up: Up):
    assert (up.loaded.peft_type, up.loaded.modules_to_save) == (None, ["classifier"])
    assert [(each.name, each.shape) for each in up.loaded.dense] == [
        ("classifier.weight", [3, 32]),
        ("classifier.bias", [3]),
    ]
    assert not any(module.name.startswith("classifier") for module in up.loaded.modules)
    base: Any = up.nested.model.get_base_model()
    assert base.config.id2label == {0: "blue", 1: "green", 2: "red"}


@pytest.mark.parametrize("objective", ["stratified", "sum"])
def test_a_client_learns_its_colours(up: Up, objective: str):
    spec = replace(FIT, objective=objective, local_steps=12)
    fitted, delta = up.fit("c00", 4, spec)
    first, _ = up.fit("c00", 4, replace(spec, local_steps=1))
    assert fitted.loss is not None and first.loss is not None and fitted.loss < first.loss
    assert any(bytes(delta["rows"].data)) and any(bytes(delta["dense"].data))


def test_an_evaluation_counts_labels_at_every_rank(up: Up):
    for tier in up.evaluate([2, 8]):
        assert tier.labels is not None and sum(tier.labels.actual) == sum(tier.labels.predicted) == 9
        actual = torch.bincount(up.dataset.fields["labels"][:9], minlength=3).tolist()
        assert tier.labels.actual == actual
        assert (tier.n_tokens, tier.n_examples, tier.rouge_l_sum) == (9, 9, None)
    with pytest.raises(ValueError, match="max_new_tokens: expected 0 for image-classification"):
        up.evaluate([2], max_new_tokens=3)


def test_a_model_without_a_preprocessor_is_a_problem(tiny: Path):
    with pytest.raises(InputError) as refused:
        task_of(model_spec(tiny, "image-classification"), tiny)
    assert refused.value.problems[0][0] == "model.name_or_path"


def test_pictures_among_a_datasets_columns_are_read(vit: Path, pictures: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    paths = sorted(pictures.glob("*/*.png"))
    columns = {
        "picture": [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "colour": [path.parent.name for path in paths],
    }
    made = datasets.Dataset.from_dict(columns)
    made = made.cast_column("picture", datasets.Image()).cast_column("colour", datasets.ClassLabel(names=list(COLOURS)))
    made.to_parquet(str(tmp_path / "pictures.parquet"))
    up = come_up(model_of(vit), LORA, data_of(tmp_path / "pictures.parquet", label="colour", image="picture"), tmp_path)
    assert up.prepared.labels == ["blue", "green", "red"]
    assert list(up.dataset.fields["pixel_values"].shape) == [36, 3, 16, 16]
