"""
Tells, in a fraction of a second and without torch, whether what a worker answered before would be answered again:

    python workers/run.py prelort_worker.unchanged --parent-pid 4711

The request comes as the first line of standard input: `{"sources": {path, sha256}, "cache_dir"}`, of which `prepared`
named the sources. The answer is one line of JSON on standard output: `{"is_unchanged", "versions"}`.
"""

import argparse
import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import InputError
from .files.file_hashes import hash_files
from .files.source_files import listing_sha256, module_names
from .lifetime import die_with_parent
from .machine import versions


def main() -> None:
    parser = argparse.ArgumentParser(prog="prelort_worker.unchanged")
    parser.add_argument("--parent-pid", required=True, type=int, help="process this one must not outlive")
    options = parser.parse_args()
    request = json.loads(sys.stdin.buffer.readline())
    die_with_parent(options.parent_pid)
    sources = request["sources"]
    answer = {
        "is_unchanged": is_unchanged(Path(sources["path"]), sources["sha256"], Path(request["cache_dir"])),
        "versions": versions(),
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


def is_unchanged(path: Path, expected_sha256: str, cache_dir: Path) -> bool:
    """Whether every file and folder of that list, and the list itself, is what it was."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    if sha256(content).hexdigest() != expected_sha256:
        return False
    sources: Any = json.loads(content)
    try:
        files, folders, code = sources["files"], sources["folders"], sources["code"]
        hashes = hash_files([Path(file["path"]) for file in files], cache_dir)
        listings = [listing_sha256(Path(folder["path"]), folder["is_deep"]) for folder in folders]
    except (InputError, OSError, KeyError):  # something is gone, or the list is of another version
        return False
    return (
        sources["is_complete"]
        and hashes == [file["sha256"] for file in files]
        and listings == [folder["sha256"] for folder in folders]
        and module_names(code["task"], code["folder"]) == code["modules"]
    )


if __name__ == "__main__":
    main()
