"""
Lists all files that determine a worker's answers to `prepare` and `load`, in the cache folder. From the list a run
finds out which file has changed, and whether an answer still holds.

    {"is_complete": true,
     "files": [{"part": "data.path", "name": "words.jsonl", "path": "/data/words.jsonl", "sha256": "…"}, …],
     "folders": [{"path": "/models/llama", "is_deep": false, "sha256": "…"}, …],
     "code": {"task": "mine:Task", "folder": "/code", "modules": ["helper.py", "mine.py"]}}

`is_complete` is false if the answers may depend on more: on the hub, or on what a custom task reads itself.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from ..files.file_hashes import hash_files, to_json
from ..files.private_file import write_private_file
from ..files.source_files import Found, code_files, listing_sha256, model_files, module_names
from ..wire.messages import IndexFile
from ..wire.specs import ModelSpec
from .data_sources import DataSources

# The folder of prelort_worker.
_PACKAGE = Path(__file__).parents[1]


def write_sources(model: ModelSpec, data: DataSources, cache_dir: Path) -> IndexFile:
    """The list is named by its hash, so an existing file never has other content."""
    files = model_files(model)
    # Includes the worker's own code, which in a checkout changes without a new version.
    own = [Found("code", path.relative_to(_PACKAGE.parent).as_posix(), path) for path in sorted(_PACKAGE.rglob("*.py"))]
    found = [*files.files, *code_files(model), *own]
    hashes = hash_files([each.path for each in found], cache_dir)
    content = to_json(
        {
            "is_complete": files.is_complete and data.is_complete,
            "files": [
                *(_file(each.part, each.name, each.path, each.sha256) for each in data.files),
                *(_file(each.part, each.name, each.path, sha) for each, sha in zip(found, hashes, strict=True)),
            ],
            "folders": [
                *(_folder(folder, is_deep=True) for folder in data.folders),
                *(_folder(folder, is_deep=False) for folder in files.folders),
            ],
            "code": {
                "task": model.task,
                "folder": None if model.task_folder is None else str(Path(model.task_folder).absolute()),
                "modules": module_names(model.task, model.task_folder),
            },
        }
    )
    digest = sha256(content).hexdigest()
    path = cache_dir / "sources" / f"{digest}.json"
    if not path.is_file():
        write_private_file(path, content)
    return IndexFile(str(path), digest)


def _file(part: str, name: str, path: Path, digest: str) -> dict[str, Any]:
    return {"part": part, "name": name, "path": str(path.absolute()), "sha256": digest}


def _folder(folder: Path, is_deep: bool) -> dict[str, Any]:
    return {"path": str(folder.absolute()), "is_deep": is_deep, "sha256": listing_sha256(folder, is_deep)}
