"""
SHA-256 of files. Each file is hashed once: the cache folder keeps the hash for as long as the file's size, times of
change, inode and device stay the same. Imports nothing heavy, since `unchanged` has to start fast.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InputError
from .private_file import write_private_file

# Bytes hashed so far, and in total. Raises when the hashes are no longer wanted.
Report: TypeAlias = Callable[[int, int], None]
# Size, time of the last write, time of the last change of the inode, inode, device; times in ns.
State: TypeAlias = tuple[int, int, int, int, int]

_BLOCK = 4 << 20
_ATTEMPTS = 3


@dataclass
class _Progress:
    done: int = 0
    is_cancelled: bool = False


@dataclass
class _Folder:
    """The known hashes of the files of one folder, by name: one file of the cache."""

    path: Path | None
    known: dict[str, tuple[State, str]] = field(default_factory=dict)
    is_new: bool = False


def file_sha256(path: Path, cache_dir: Path | None = None) -> str:
    return hash_files([path], cache_dir)[0]


def hash_files(paths: Sequence[Path], cache_dir: Path | None, report: Report | None = None) -> list[str]:
    """Hashes in the order of the paths. Without a cache folder nothing is kept."""
    folders = {parent: _read_folder(cache_dir, parent) for parent in {path.parent for path in paths}}
    states = [_state(path) for path in paths]
    found: list[str | None] = []
    for path, state in zip(paths, states, strict=True):
        known = folders[path.parent].known.get(path.name)
        found.append(known[1] if known and known[0] == state else None)
    missing = [index for index, sha in enumerate(found) if sha is None]
    hashed = _hash_all([paths[index] for index in missing], sum(states[index][0] for index in missing), report)
    for index, (state, sha) in zip(missing, hashed, strict=True):
        found[index] = sha
        if state is not None:
            folder = folders[paths[index].parent]
            folder.known[paths[index].name] = (state, sha)
            folder.is_new = True
    for parent, folder in folders.items():
        if folder.is_new:
            _write_folder(folder, parent)
    return [sha for sha in found if sha is not None]


def to_json(content: Any) -> bytes:
    """Canonical JSON; also encodes file names that are not UTF-8."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _hash_all(paths: Sequence[Path], n_bytes: int, report: Report | None) -> list[tuple[State | None, str]]:
    if not paths:
        return []
    progress = _Progress()
    # hashlib releases the GIL, so several files are hashed in parallel.
    with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1, 8)) as pool:
        futures = [pool.submit(_hash_one, path, progress) for path in paths]
        try:
            return [_await(future, progress, n_bytes, report) for future in futures]
        except BaseException:
            progress.is_cancelled = True
            pool.shutdown(cancel_futures=True)
            raise


def _await(
    future: Future[tuple[State | None, str]], progress: _Progress, n_bytes: int, report: Report | None
) -> tuple[State | None, str]:
    while True:
        try:
            return future.result(timeout=None if report is None else 0.5)
        except TimeoutError:
            assert report is not None
            report(min(progress.done, n_bytes), n_bytes)


def _hash_one(path: Path, progress: _Progress) -> tuple[State | None, str]:
    """The hash, and the file's state; None where a later change could leave the same state."""
    for _ in range(_ATTEMPTS):
        begun, before = time.time_ns(), _state(path)
        sha = _digest(path, progress)
        if _state(path) == before:
            return (before if _is_settled(before, begun) else None), sha
    raise InputError(
        f"{path}: changed while it was being read; wait until it is complete, or find out what writes to it"
    )


def _is_settled(state: State, now: int) -> bool:
    """Changes within one clock tick leave the same times: a few ms in the kernel, 2 s on some file systems."""
    tick = 100_000_000 if any(at % 1_000_000_000 for at in state[1:3]) else 2_000_000_000
    return now - max(state[1:3]) > tick


def _digest(path: Path, progress: _Progress) -> str:
    digest, block = sha256(), bytearray(_BLOCK)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while (n := file.readinto(block)) and not progress.is_cancelled:
            digest.update(view[:n])
            progress.done += n
    return digest.hexdigest()


def _state(path: Path) -> State:
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev


def _read_folder(cache_dir: Path | None, folder: Path) -> _Folder:
    """Ignores a damaged record: its files are hashed again."""
    if cache_dir is None:
        return _Folder(None)
    name = sha256(os.fsencode(folder.absolute())).hexdigest()
    path = cache_dir / "hashes" / f"{name}.json"
    try:
        record = json.loads(path.read_bytes())
        if record["sha256"] != sha256(to_json(record["files"])).hexdigest():
            return _Folder(path)
        known = {
            name: ((size, mtime, ctime, inode, device), sha)
            for name, (size, mtime, ctime, inode, device, sha) in record["files"].items()
        }
        return _Folder(path, known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Folder(path)


def _write_folder(folder: _Folder, parent: Path) -> None:
    """Merges with what another worker may have written meanwhile. A cache that cannot be written costs only time."""
    if folder.path is None:
        return
    merged = {**_read_folder(folder.path.parent.parent, parent).known, **folder.known}
    files = {name: [*state, sha] for name, (state, sha) in merged.items()}
    with suppress(OSError):
        write_private_file(folder.path, to_json({"sha256": sha256(to_json(files)).hexdigest(), "files": files}))
