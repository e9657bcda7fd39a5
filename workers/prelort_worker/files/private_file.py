"""Files derived from the user's data, readable only by the user."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_files() -> Iterator[None]:
    """Files that a library writes within the block are private. Sets the umask of the process: main thread only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def write_private_file(path: Path, content: bytes) -> None:
    """
    Writes a file that only its owner may read (0600, in a folder of 0700 if that is new), whatever the umask is.
    Atomic: writes a temporary file and renames it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")  # made 0600
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
