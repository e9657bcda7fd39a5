"""Files made from the user's data, which may be readable by the user alone."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_files() -> Iterator[None]:
    """What a library writes within it is for its owner alone; of the whole process, so for its main thread alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def write_private_file(path: Path, content: bytes) -> None:
    """
    Writes a file that its owner alone may read (0600, in a folder of 0700 if that is new), whatever the umask is.
    Written aside and renamed: a reader sees the whole file or none.
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
