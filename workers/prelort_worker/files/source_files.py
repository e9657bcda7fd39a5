"""
The files, besides the data, that determine what a worker computes: those of the model, and the modules of a custom
task. Found without importing torch or the modules themselves.
"""

import json
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from ..errors import InputError
from ..wire.messages import Source, SourceFile, SourcePart
from ..wire.specs import ModelSpec
from .file_hashes import Report, hash_files, to_json
from .own_modules import modules_of

# Weights that a custom task may load, besides safetensors.
_OTHER_WEIGHTS = ("*.safetensors*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.npy", "*.npz", "*.onnx", "*.h5")
# Includes image processors.
_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "*vocab.json",
    "*.spm",
    "*.codes",
    "dict.txt",
    "normalizer.json",
    "*processor*.json",
)
_CONFIG = ("config.json", "generation_config.json", "adapter_config.json", "*quant*_config.json")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """A file, and its name in records."""

    part: SourcePart
    name: str
    path: Path


@dataclass(frozen=True)
class ModelFiles:
    # For a hub name.
    commit: str | None
    files: list[Found]
    # Folders in which a new file would change what is loaded.
    folders: list[Path]
    # Whether these files alone determine what is loaded: a hub name may resolve differently tomorrow.
    is_complete: bool


def describe_source(model: ModelSpec, cache_dir: Path, report: Report | None = None) -> Source:
    """SHA-256 of the model's files and of a custom task's code."""
    files = model_files(model)
    found = [*files.files, *code_files(model)]
    hashes = hash_files([each.path for each in found], cache_dir, report)
    return Source(
        files.commit,
        [
            SourceFile(each.part, each.name, each.path.stat().st_size, sha)
            for each, sha in zip(found, hashes, strict=True)
        ],
    )


def model_files(model: ModelSpec, is_base: bool = False) -> ModelFiles:
    """The files loaded for that name, as far as they are on this machine; `is_base`: as an adapter's base model."""
    folder = Path(model.name_or_path)
    if folder.is_dir():
        return _in_folder(model, folder, _commit_of(folder), is_base, is_complete=True)
    snapshot = _snapshot(model)
    if snapshot is None:
        return ModelFiles(None, [], [], is_complete=":" in model.task and not folder.exists())
    is_fixed = _COMMIT.fullmatch(model.revision or "") is not None
    return _in_folder(model, snapshot, snapshot.name, is_base, is_complete=is_fixed)


def _in_folder(model: ModelSpec, folder: Path, commit: str | None, is_base: bool, is_complete: bool) -> ModelFiles:
    patterns: dict[SourcePart, tuple[str, ...]] = {"tokenizer": _TOKENIZER, "config": _CONFIG}
    if model.trust_remote_code:
        patterns["config"] += ("*.py",)
    if ":" in model.task:
        patterns["weights"] = _OTHER_WEIGHTS
    there = sorted(path for path in folder.iterdir() if path.is_file())
    found = [] if ":" in model.task else [Found("weights", path.name, path) for path in _weights(folder)]
    for part, named in patterns.items():
        found += [Found(part, each.name, each) for each in there if any(fnmatch(each.name, name) for name in named)]
    folders, templates = [folder], folder / "additional_chat_templates"
    if templates.is_dir():
        found += [Found("tokenizer", _name(path, folder), path) for path in visible(templates)]
        folders.append(templates)
    base = None if is_base else _base_of_adapter(folder, model)
    if base is None:
        return ModelFiles(commit, found, folders, is_complete)
    under = model_files(base, is_base=True)
    found += [replace(each, name=f"{base.name_or_path}/{each.name}") for each in under.files]
    return ModelFiles(commit, found, [*folders, *under.folders], is_complete and under.is_complete)


def _weights(folder: Path) -> list[Path]:
    """The files that transformers loads: one file, or the shards that its index names; for an adapter, its own too."""
    is_adapter = (folder / "adapter_config.json").is_file()
    named = _named_weights(folder)
    found = _pieces(folder, "model") if named is None else _pieces_of(folder / named)
    return [*found, *(_pieces(folder, "adapter_model") if is_adapter else [])]


def _named_weights(folder: Path) -> str | None:
    """The file that the config names instead of model.safetensors."""
    try:
        named = json.loads((folder / "config.json").read_bytes()).get("transformers_weights")
    except (OSError, ValueError, AttributeError):
        return None
    return named if isinstance(named, str) else None


def _pieces(folder: Path, stem: str) -> list[Path]:
    whole = folder / f"{stem}.safetensors"
    return [whole] if whole.is_file() else _pieces_of(folder / f"{stem}.safetensors.index.json")


def _pieces_of(file: Path) -> list[Path]:
    """The file and, if it is an index, the shards it names."""
    if not file.is_file() or not file.name.endswith(".index.json"):
        return [file] if file.is_file() else []
    try:
        pieces = sorted(set(json.loads(file.read_bytes())["weight_map"].values()))
        return [file, *(file.parent / piece for piece in pieces if (file.parent / piece).is_file())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [file]  # transformers reports the error


def _base_of_adapter(folder: Path, model: ModelSpec) -> ModelSpec | None:
    """Transformers loads a PEFT adapter's folder as its base model with the adapter applied."""
    try:
        base = json.loads((folder / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_other = isinstance(base, str) and base and base != model.name_or_path and Path(base) != folder
    return replace(model, name_or_path=base, revision=None) if is_other else None


def _snapshot(model: ModelSpec) -> Path | None:
    """The snapshot folder in the Hugging Face cache for that name."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(model.name_or_path, "config.json", revision=model.revision or "main")
    except ValueError:  # not a valid name
        return None
    return Path(config).parent if isinstance(config, str) else None


def _commit_of(folder: Path) -> str | None:
    """For a folder in the Hugging Face cache."""
    name = folder.resolve().name
    return name if folder.resolve().parent.name == "snapshots" and _COMMIT.fullmatch(name) else None


def code_files(model: ModelSpec) -> list[Found]:
    """For a custom task: its module, and all that it imports from its folder."""
    module, own, _ = model.task.partition(":")
    if not own:
        return []
    return [Found("code", name, path) for name, path in modules_of(module, model.task_folder)]


def module_names(task: str, folder: str | None) -> list[str]:
    """Names of a custom task's modules at present: a module that is missing now may exist later."""
    module, own, _ = task.partition(":")
    return [name for name, _ in modules_of(module, folder)] if own else []


def code_sha256(model: ModelSpec) -> str | None:
    found = code_files(model)
    hashes = [
        [each.name, sha] for each, sha in zip(found, hash_files([each.path for each in found], None), strict=True)
    ]
    return sha256(to_json(hashes)).hexdigest() if found else None


def visible(folder: Path) -> list[Path]:
    """All files below the folder that are not hidden, sorted by name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    shown = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(shown, key=lambda path: path.relative_to(folder).parts)


def listing_sha256(folder: Path, is_deep: bool) -> str:
    """SHA-256 of the names of its files; `is_deep`: including those in subfolders."""
    try:
        names = (
            [_name(path, folder) for path in visible(folder)]
            if is_deep
            else sorted(path.name for path in folder.iterdir())
        )
        return sha256(to_json(names)).hexdigest()
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
