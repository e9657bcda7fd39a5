"""What is written into a run's folder, which may come from somebody else: never through a link to somewhere else."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError


def own_folder(folder: Path) -> None:
    """Makes a folder in a run's folder, if it is not there. Raises InputError if a link has its name."""
    if folder.is_symlink():
        raise InputError(f"{folder} is a link, which may lead anywhere; replace it with the folder itself")
    folder.mkdir(exist_ok=True)


def write_file(file: Path, content: str | bytes) -> None:
    """Atomically, and on disk when it returns. What was there under either name is replaced, also a link or a pipe."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
        opened.flush()
        os.fsync(opened.fileno())
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
