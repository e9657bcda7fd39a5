"""Which files decide what a model is: by them another model is refused."""

import json
import sys
from pathlib import Path

import pytest
from models_for_tests import CPU, quiet
from prelort_worker.errors import InputError
from prelort_worker.files import file_hashes
from prelort_worker.files.own_modules import modules_of
from prelort_worker.files.source_files import describe_source, model_files
from prelort_worker.task_runner import TaskRunner
from prelort_worker.wire.messages import Load, Prepare, Prepared
from prelort_worker.wire.specs import ModelSpec
from specs import LORA, SEED, data_spec, model_spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def spec(
    name_or_path: Path | str, task: str = "causal-lm", revision: str | None = None, trust: bool = False
) -> ModelSpec:
    return ModelSpec(str(name_or_path), revision, task, None, None, "f32", None, None, trust)


def folder_of(path: Path, names: list[str]) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def names_of(model: ModelSpec) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in model_files(model).files:
        found.setdefault(file.part, []).append(file.name)
    return found


def test_only_the_files_that_transformers_reads_from_a_folder_count(tmp_path: Path):
    others = ["README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.onnx", ".git/config", "run.log"]
    tokenizer = ["chat_template.jinja", "merges.txt", "preprocessor_config.json", "spiece.model", "tokenizer.json"]
    configs = ["config.json", "generation_config.json", "modeling_mine.py"]
    folder_of(tmp_path, [*others, *tokenizer, *configs, "model.safetensors", "additional_chat_templates/tool.jinja"])
    assert names_of(spec(tmp_path)) == {
        "weights": ["model.safetensors"],
        "tokenizer": [*tokenizer, "additional_chat_templates/tool.jinja"],
        "config": configs[:2],
    }
    assert names_of(spec(tmp_path, trust=True))["config"] == configs, "its own code is run"
    assert "pytorch_model.bin" in names_of(spec(tmp_path, "mine:Task"))["weights"], "it may load anything"


def test_only_the_shards_that_the_index_names_count(tmp_path: Path):
    folder_of(tmp_path, ["config.json", *(f"model-{index}.safetensors" for index in (1, 2, 3))])
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-1.safetensors"}})
    )
    expected = ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    assert names_of(spec(tmp_path))["weights"] == expected


@pytest.mark.parametrize("named", ["other.safetensors", "other.safetensors.index.json"])
def test_weights_that_the_config_names_replace_the_usual_ones(tmp_path: Path, named: str):
    folder = folder_of(tmp_path / "model", ["model.safetensors", "other.safetensors", "piece.safetensors"])
    (folder / "config.json").write_text(json.dumps({"transformers_weights": named}))
    (folder / "other.safetensors.index.json").write_text('{"weight_map": {"a": "piece.safetensors"}}')
    expected = [named, *(["piece.safetensors"] if named.endswith("json") else [])]
    assert [file.name for file in model_files(spec(folder)).files if file.part == "weights"] == expected


def test_the_base_model_of_an_adapter_counts_too(tmp_path: Path):
    base = folder_of(tmp_path / "base", ["config.json", "model.safetensors", "adapter_model.safetensors"])
    adapter = folder_of(tmp_path / "adapter", ["adapter_model.safetensors"])
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert names_of(spec(adapter)) == {
        "weights": ["adapter_model.safetensors", f"{base}/model.safetensors"],
        "config": ["adapter_config.json", f"{base}/config.json"],
    }


def test_for_a_hub_name_the_loaded_commit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repository = tmp_path / "models--some-org--tiny"
    snapshot = folder_of(repository / "snapshots" / COMMIT, ["config.json", "model.safetensors"])
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = model_files(spec("some-org/tiny"))
    assert (found.commit, found.is_complete) == (COMMIT, False), "main may lead elsewhere tomorrow"
    assert [file.path for file in found.files] == [snapshot / "model.safetensors", snapshot / "config.json"]
    assert model_files(spec("some-org/tiny", revision=COMMIT)).is_complete
    assert model_files(spec(snapshot)).commit == COMMIT
    assert model_files(spec("some-org/other")).files == [] == model_files(spec("not a name")).files


OWN = {
    "mine.py": "import torch, helper, pkg.deep\nfrom pkg import beside\nimport json\n",
    "helper.py": "def late():\n    import lazy\n",
    "lazy.py": "import importlib\nimportlib.import_module('named')\n",
    "named.py": "import mine\n",
    "pkg/__init__.py": "",
    "pkg/deep.py": "from . import near\nfrom .lower.under import x\nfrom ..up import y\n",
    "pkg/near.py": "",
    "pkg/beside.py": "",
    "pkg/unused.py": "",
    "pkg/lower/__init__.py": "",
    "pkg/lower/under.py": "x = 1\n",
    "json.py": "",
    "unused.py": "",
    "space/part.py": "",
    "broken.py": "def (",
    "other/task.py": "import space.part\nimport broken\n",
}
IMPORTED = [
    "helper.py",
    "lazy.py",
    "mine.py",
    "named.py",
    "pkg/__init__.py",
    "pkg/beside.py",
    "pkg/deep.py",
    "pkg/lower/__init__.py",
    "pkg/lower/under.py",
    "pkg/near.py",
]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name, source in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def test_the_code_of_a_task_is_everything_it_imports_from_its_folder(own: Path, monkeypatch: pytest.MonkeyPatch):
    assert [name for name, _ in modules_of("mine", str(own))] == IMPORTED, "json is Python's own"
    monkeypatch.syspath_prepend(own.parent)
    monkeypatch.chdir(own)
    monkeypatch.setattr(sys, "path", [*sys.path, "", str(own)])
    assert [name for name, _ in modules_of("mine", str(own))] == IMPORTED, "where it may be found in another way"


def test_a_helper_that_is_a_link_to_elsewhere_counts(tmp_path: Path):
    (tmp_path / "shared/pkg").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    for name, source in (("helper.py", ""), ("pkg/__init__.py", "from . import near\n"), ("pkg/near.py", "")):
        (tmp_path / "shared" / name).write_text(source)
    (tmp_path / "own/mine.py").write_text("import helper, pkg\n")
    for name in ("helper.py", "pkg"):
        (tmp_path / "own" / name).symlink_to(tmp_path / "shared" / name)
    expected = ["helper.py", "mine.py", "pkg/__init__.py", "pkg/near.py"]
    assert [name for name, _ in modules_of("mine", str(tmp_path / "own"))] == expected
    (tmp_path / "link").symlink_to(tmp_path / "own")
    assert [name for name, _ in modules_of("mine", str(tmp_path / "link"))] == expected


def test_a_module_imported_by_a_relative_name_or_built_from_c_counts(tmp_path: Path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "mine.py").write_text("import pkg, fast\n")
    (tmp_path / "fast.so").write_bytes(b"")
    (tmp_path / "fast.py").write_text("what Python does not take")
    (tmp_path / "pkg/__init__.py").write_text("from importlib import import_module\nimport_module('.near', __name__)\n")
    (tmp_path / "pkg/near.py").write_text("")
    found = [name for name, _ in modules_of("mine", str(tmp_path))]
    assert found == ["fast.so", "mine.py", "pkg/__init__.py", "pkg/near.py"]


def test_files_of_rarer_tokenizers_count(tmp_path: Path):
    names = ["bpe.codes", "dict.txt", "entity_vocab.json", "normalizer.json", "source.spm", "target.spm"]
    folder = folder_of(tmp_path / "model", ["config.json", "model.safetensors", *names])
    assert [file.name for file in model_files(spec(folder)).files if file.part == "tokenizer"] == names


def test_a_task_may_be_in_a_subfolder_that_is_not_a_package(own: Path):
    assert [name for name, _ in modules_of("other.task", str(own))] == ["broken.py", "other/task.py", "space/part.py"]
    assert [name for name, _ in modules_of("pkg", str(own))] == ["pkg/__init__.py"]
    assert [name for name, _ in modules_of("pkg.lower.under", str(own))] == [
        "pkg/__init__.py",
        "pkg/lower/__init__.py",
        "pkg/lower/under.py",
    ]


def test_only_the_own_modules_of_an_installed_package_count(own: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])
    (own / "pkg/deep.py").write_text("import helper\nfrom . import near\n")
    expected = ["pkg/__init__.py", "pkg/deep.py", "pkg/near.py"]
    assert [name for name, _ in modules_of("pkg.deep", None)] == expected
    assert [name for name, _ in modules_of("pkg.deep", str(own / "other"))] == expected
    assert modules_of("nowhere", None) == modules_of("nowhere.at.all", str(own)) == []


def test_a_built_in_task_has_no_code_and_a_custom_task_has_its_helpers(own: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert describe_source(spec("none"), cache).files == []
    mine = ModelSpec("none", None, "mine:Task", str(own), None, "f32", None, None, False)
    before = {file.name: file.sha256 for file in describe_source(mine, cache).files}
    (own / "lazy.py").write_text("changed = 1\n")
    after = {file.name: file.sha256 for file in describe_source(mine, cache).files}
    assert before.keys() - after.keys() == {"named.py"}, "which it no longer imports"
    assert [name for name in after if after[name] != before[name]] == ["lazy.py"]


def test_every_worker_reports_what_it_loaded(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, data = model_spec(tiny, "causal-lm"), data_spec(tiny, "causal-lm")
    runner = TaskRunner(CPU)
    prepared, _ = runner.run(Prepare("p", 1, SEED, model, LORA, data, str(tmp_path)), {}, quiet)
    assert isinstance(prepared, Prepared)
    load = Load("l", 1, SEED, model, LORA, prepared.index, [], str(tmp_path))
    source = runner.run(load, {}, quiet)[0].source  # pyright: ignore[reportAttributeAccessIssue]
    assert {file.part for file in source.files} == {"weights", "tokenizer", "config"}
    weights = tiny / "tiny-llama/model.safetensors"
    (told,) = (file for file in source.files if file.part == "weights")
    assert (told.name, told.bytes, told.sha256) == (
        weights.name,
        weights.stat().st_size,
        file_hashes.file_sha256(weights),
    )

    hashes = iter(["0" * 64, "1" * 64])
    monkeypatch.setattr(
        "prelort_worker.files.source_files.hash_files", lambda paths, *_: [next(hashes)] * len(paths) if paths else []
    )
    with pytest.raises(InputError, match="changed while it was loaded"):
        runner.run(load, {}, quiet)
