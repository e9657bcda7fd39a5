"""What data is made of, and whether what a worker answered of it still holds."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import CPU, quiet
from more_models import write_vit
from PIL import Image
from prelort_worker.unchanged import is_unchanged
from prelort_worker.wire.messages import Prepare, Prepared
from prelort_worker.wire.specs import DataSpec, LoraSpec, ModelSpec
from specs import LORA, SEED, data_spec, model_spec
from told import Told, prepare

# A task of one's own whose rows name files, relative to the table, and whose code lies in two modules.
READS_FILES = """
from helper import text_of
from prelort_worker.tasks.sequence_classification import SequenceClassification
from prelort_worker.rows.row import Row

class Reads(SequenceClassification):
    def encode(self, rows, data, progress):
        return super().encode([Row(row.where, {**row.columns, "text": text_of(row)}) for row in rows], data, progress)
"""
HELPER = """
from pathlib import Path

def text_of(row):
    return (Path(row.where.rpartition(":")[0]).parent / row.columns["file"]).read_text()
"""


def colour(path: Path, value: int) -> str:
    Image.new("RGB", (16, 16), (value, 0, 0)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A table of twelve pictures."""
    rows = [f"{colour(tmp_path / f'{number}.png', number)},{number % 2}" for number in range(12)]
    (tmp_path / "table.csv").write_text("picture,class\n" + "\n".join(rows))
    return tmp_path


def data_of(table: Path, **changes: Any) -> DataSpec:
    asked = {"path": str(table), "label": "class", "text": None, "image": "picture", "clients": 2, "eval_examples": 2}
    return data_spec(table, "image-classification", **{**asked, **changes})


def run(model: ModelSpec, data: DataSpec, cache: Path, lora: LoraSpec = LORA) -> Told:
    return prepare(Prepare("p", 1, SEED, model, lora, data, str(cache)), CPU, quiet)


def listed(prepared: Prepared) -> dict[str, list[str]]:
    assert prepared.sources is not None
    found: dict[str, list[str]] = {}
    for file in json.loads(Path(prepared.sources.path).read_text())["files"]:
        if "prelort_worker/" not in file["name"]:
            found.setdefault(file["part"], []).append(file["name"])
    return found


def test_pictures_that_a_table_names_are_part_of_the_data(vit: Path, pictures: Path):
    model, data = model_spec(vit, "image-classification", name_or_path=str(vit)), data_of(pictures / "table.csv")
    cache = pictures / "cache"
    first = run(model, data, cache)
    assert run(model, data, cache) == first
    assert listed(first)["data.path"] == ["table.csv"]
    assert listed(first)["row of data.path"] == [str(pictures / f"{number}.png") for number in range(12)]
    one, two = (pictures / f"{number}.png" for number in (3, 4))
    one.rename(pictures / "aside")
    two.rename(one)
    (pictures / "aside").rename(two)
    exchanged = run(model, data, cache)
    assert exchanged.index.sha256 != first.index.sha256 and exchanged.data_sha256 != first.data_sha256
    assert exchanged.index.path != first.index.path, "a run that is under way still has its own"


def test_maps_and_lists_in_cells_name_files_too_unless_they_hold_the_bytes(vit: Path, pictures: Path):
    model, cache = model_spec(vit, "image-classification", name_or_path=str(vit)), pictures / "cache"
    names = [str(pictures / f"{number}.png") for number in range(12)]
    cells: list[Callable[[str], object]] = [lambda name: {"bytes": None, "path": name}, lambda name: {"path": name}]
    for cell in cells:
        rows = [{"picture": cell(name), "class": index % 2} for index, name in enumerate(names)]
        (pictures / "table.json").write_text(json.dumps(rows))
        assert listed(run(model, data_of(pictures / "table.json"), cache))["row of data.path"] == names


@pytest.mark.parametrize("column", ["picture", "picture.path"])
def test_a_pictures_file_name_needs_no_suffix(vit: Path, tmp_path: Path, column: str):
    rows = []
    for number in range(12):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"my picture {number}", "PNG")
        name = f"my picture {number}"
        path = str(tmp_path / name)
        rows.append({"picture": {"path": path} if "." in column else path, "class": str(number % 2)})
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = model_spec(tmp_path, "image-classification", name_or_path=str(vit))
    before = run(model, data_of(tmp_path / "table.jsonl", image=column), tmp_path / "cache")
    assert len(listed(before)["row of data.path"]) == 12
    Image.new("RGB", (16, 16), (200, 0, 0)).save(tmp_path / "my picture 3", "PNG")
    after = run(model, data_of(tmp_path / "table.jsonl", image=column), tmp_path / "cache")
    assert after.data_sha256 != before.data_sha256
    assert after.index.sha256 != before.index.sha256


def test_held_out_pictures_from_elsewhere_count_too(vit: Path, pictures: Path):
    model = model_spec(vit, "image-classification", name_or_path=str(vit))
    other = colour(pictures / "other.png", 200)
    (pictures / "held-out.csv").write_text(f"picture,class\n{other},0\n{other},1\n")
    data = data_of(pictures / "table.csv", eval_path=str(pictures / "held-out.csv"))
    found = listed(run(model, data, pictures / "cache"))
    assert (found["data.eval_path"], found["row of data.eval_path"]) == (["held-out.csv"], [other])


def test_a_folder_of_pictures_is_not_listed_twice(vit: Path, tmp_path: Path):
    for number in range(12):
        (tmp_path / "data" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        colour(tmp_path / "data" / str(number % 2) / f"{number}.png", number)
    model = model_spec(vit, "image-classification", name_or_path=str(vit))
    data = data_of(tmp_path / "data", label="folder", image="image")
    first = run(model, data, tmp_path / "cache")
    assert len(listed(first)["data.path"]) == 12 and "row of data.path" not in listed(first)
    colour(tmp_path / "data/0/0.png", 77)
    assert run(model, data, tmp_path / "cache").data_sha256 != first.data_sha256


@pytest.fixture
def own(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelSpec, DataSpec]:
    """A table beside the files that it names, and a task in another folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    for name in ("code", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "code/mine.py").write_text(READS_FILES)
    (tmp_path / "code/helper.py").write_text(HELPER)
    for number in range(12):
        (tmp_path / f"data/{number}.txt").write_text("fur paw" if number % 2 else "sweet dish")
    rows = [json.dumps({"file": f"{number}.txt", "text": "x/y", "topic": str(number % 2)}) for number in range(12)]
    (tmp_path / "data/table.jsonl").write_text("\n".join(rows))
    model = model_spec(tiny, "mine:Reads", task_folder=str(tmp_path / "code"))
    changes: dict[str, Any] = {"path": str(tmp_path / "data/table.jsonl"), "clients": 2, "eval_examples": 2}
    return model, data_spec(tiny, "sequence-classification", **changes)


def test_files_that_a_table_names_count_for_a_custom_task(own: tuple[ModelSpec, DataSpec], tmp_path: Path):
    first = run(*own, tmp_path / "cache")
    assert listed(first)["row of data.path"] == [f"{number}.txt" for number in range(12)]
    (tmp_path / "data/5.txt").write_text("metal blade")
    again = run(*own, tmp_path / "cache")
    assert again.index.sha256 != first.index.sha256 and again.data_sha256 != first.data_sha256


def test_the_cache_key_of_prepared_data_covers_a_tasks_helper_modules(own: tuple[ModelSpec, DataSpec], tmp_path: Path):
    first = run(*own, tmp_path / "cache")
    assert listed(first)["code"] == ["helper.py", "mine.py"]
    (tmp_path / "code/helper.py").write_text(HELPER + "\n# other\n")
    again = run(*own, tmp_path / "cache")
    assert again.index.path != first.index.path and again.index.sha256 != first.index.sha256
    assert again.data_sha256 == first.data_sha256, "the data is the same"


def still_holds(prepared: Prepared, cache: Path) -> bool:
    assert prepared.sources is not None
    return is_unchanged(Path(prepared.sources.path), prepared.sources.sha256, cache)


def test_an_answer_holds_until_any_file_changes(own: tuple[ModelSpec, DataSpec], tiny: Path, tmp_path: Path):
    copy = tmp_path / "model"
    copy.mkdir()
    for file in (tiny / "tiny-bert").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model, data, cache = replace(own[0], name_or_path=str(copy)), own[1], tmp_path / "cache"
    prepared = run(model, data, cache)
    assert still_holds(prepared, cache)
    changed = ["model/model.safetensors", "model/tokenizer.json", "code/helper.py", "data/table.jsonl", "data/7.txt"]
    for name in changed:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b" ")
        assert not still_holds(prepared, cache), name
        (tmp_path / name).write_bytes(content)
        assert still_holds(prepared, cache), name
    (tmp_path / "model/chat_template.jinja").write_text("{{ messages }}")
    assert not still_holds(prepared, cache), "a file more"
    (tmp_path / "model/chat_template.jinja").unlink()
    (tmp_path / "data/7.txt").unlink()
    assert not still_holds(prepared, cache), "a file less"


def test_a_new_file_in_a_folder_of_templates_is_noticed(tiny: Path, tmp_path: Path):
    model = Path(shutil.copytree(tiny / "tiny-llama", tmp_path / "model"))
    (model / "additional_chat_templates").mkdir()
    data = data_spec(tiny, "causal-lm")
    prepared = run(model_spec(tiny, "causal-lm", name_or_path=str(model)), data, tmp_path / "cache")
    assert still_holds(prepared, tmp_path / "cache")
    (model / "additional_chat_templates/tool_use.jinja").write_text("{{ messages }}")
    assert not still_holds(prepared, tmp_path / "cache")


def test_a_module_that_was_missing_before_is_noticed(own: tuple[ModelSpec, DataSpec], tmp_path: Path):
    looks = "try:\n    import extra_rules\nexcept ImportError:\n    pass\n"
    (tmp_path / "code/mine.py").write_text(looks + READS_FILES)
    prepared = run(*own, tmp_path / "cache")
    assert still_holds(prepared, tmp_path / "cache")
    (tmp_path / "code/extra_rules.py").write_text("")
    assert not still_holds(prepared, tmp_path / "cache")


def test_a_new_file_in_a_folder_of_data_is_noticed(tiny: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").write_bytes((tiny / "words.jsonl").read_bytes())
    data = data_spec(tiny, "causal-lm", path=str(tmp_path / "data"))
    prepared = run(model_spec(tiny, "causal-lm"), data, tmp_path / "cache")
    assert still_holds(prepared, tmp_path / "cache")
    (tmp_path / "data/b.jsonl").write_text('{"word": "a", "gloss": "b"}\n')
    assert not still_holds(prepared, tmp_path / "cache")


def test_a_list_that_is_damaged_or_gone_proves_nothing(tiny: Path, tmp_path: Path):
    prepared = run(model_spec(tiny, "causal-lm"), data_spec(tiny, "causal-lm"), tmp_path / "cache")
    assert prepared.sources is not None
    path = Path(prepared.sources.path)
    path.write_bytes(path.read_bytes().replace(b"true", b"True"))
    assert not still_holds(prepared, tmp_path / "cache")
    path.unlink()
    assert not still_holds(prepared, tmp_path / "cache")


READS_ALL = """
from prelort_worker.rows.row import Row
from prelort_worker.tasks.sequence_classification import SequenceClassification

class Reads(SequenceClassification):
    def read(self, path, split, data):
        return [Row(f"{path}:{n}", {"text": "fur paw", "topic": str(n % 2)}) for n in range(12)]
"""


def test_no_answer_is_known_to_hold_for_a_task_that_reads_files_itself(own: tuple[ModelSpec, DataSpec], tmp_path: Path):
    (tmp_path / "code/mine.py").write_text(READS_ALL)
    assert not still_holds(run(*own, tmp_path / "cache"), tmp_path / "cache")


def test_the_program_answers_without_torch(tiny: Path, tmp_path: Path):
    prepared = run(model_spec(tiny, "causal-lm"), data_spec(tiny, "causal-lm"), tmp_path / "cache")
    assert prepared.sources is not None
    asked = {"sources": {"path": prepared.sources.path, "sha256": prepared.sources.sha256}, "cache_dir": str(tmp_path)}
    script = "import sys; from prelort_worker import unchanged; unchanged.main(); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "--parent-pid", str(os.getpid())],
        input=json.dumps(asked) + "\n",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["is_unchanged"] is True and {"python", "torch", "transformers"} <= answer["versions"].keys()
