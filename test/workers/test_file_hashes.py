"""Hashes of files are computed once, and never told of a file that has changed."""

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from prelort_worker.errors import InputError
from prelort_worker.files import file_hashes
from prelort_worker.files.file_hashes import hash_files


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes were read."""
    names: list[str] = []
    honest = file_hashes._digest
    monkeypatch.setattr(file_hashes, "_digest", lambda path, *rest: (names.append(path.name), honest(path, *rest))[1])
    return names


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if files had been written an hour ago."""
    now = file_hashes.time.time_ns
    monkeypatch.setattr(file_hashes.time, "time_ns", lambda: now() + 3600 * 10**9)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path: Path, read: list[str]):
    files = [write(tmp_path / name, name.encode() * 3_000_000) for name in ("a", "b/c", "empty")]
    write(files[2], b"")
    expected = [sha(b"a" * 3_000_000), sha(b"b/c" * 3_000_000), sha(b"")]
    assert hash_files(files, tmp_path / "cache") == expected
    assert sorted(read) == ["a", "c", "empty"]
    assert hash_files(files[::-1], tmp_path / "cache") == expected[::-1]
    assert len(read) == 3
    assert hash_files(files, None) == expected and len(read) == 6, "without a cache"


def test_a_change_is_noticed_even_if_size_and_mtime_are_the_same(tmp_path: Path):
    file = write(tmp_path / "a", b"one")
    before = file.stat()
    assert hash_files([file], tmp_path / "cache") == [sha(b"one")]
    file.write_bytes(b"two")
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # until the kernel's clock has ticked
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_files([file], tmp_path / "cache") == [sha(b"two")]


def test_a_file_that_replaces_another_is_read(tmp_path: Path, read: list[str]):
    file, other = write(tmp_path / "a", b"one"), write(tmp_path / "b", b"two")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    hash_files([file, other], tmp_path / "cache")
    other.replace(file)
    assert hash_files([file], tmp_path / "cache") == [sha(b"two")]
    link = tmp_path / "link"
    link.symlink_to(file)
    assert hash_files([link], tmp_path / "cache") == [sha(b"two")]
    link.unlink()
    link.symlink_to(write(tmp_path / "c", b"three"))
    assert hash_files([link], tmp_path / "cache") == [sha(b"three")]


def test_the_hash_of_a_file_written_just_now_is_not_cached(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
):
    file = write(tmp_path / "a", b"one")
    monkeypatch.setattr(file_hashes.time, "time_ns", lambda: file.stat().st_ctime_ns + 1)
    hash_files([file], tmp_path / "cache")
    assert hash_files([file], tmp_path / "cache") == [sha(b"one")] and read == ["a", "a"]


def test_a_file_that_changes_during_reading_is_read_again_and_refused_if_it_keeps_changing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, honest, writes = write(tmp_path / "a", b"one"), file_hashes._digest, [b"longer"]

    def digest(path: Path, *rest: object) -> str:
        found = honest(path, *rest)  # pyright: ignore[reportArgumentType]
        if writes:
            file.write_bytes(writes.pop())
        return found

    monkeypatch.setattr(file_hashes, "_digest", digest)
    assert hash_files([file], tmp_path / "cache") == [sha(b"longer")]
    assert hash_files([file], tmp_path / "cache") == [sha(b"longer")]
    writes += [b"x" * size for size in range(9)]
    file.write_bytes(b"another")
    with pytest.raises(InputError, match="a: changed while"):
        hash_files([file], tmp_path / "cache")


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b'{"sha256": "00", "files": {"a": [1,2,3,4,5,"00"]}}', b"\xff", b"[" * 100_000]
)
def test_a_damaged_cache_is_ignored_and_rewritten(tmp_path: Path, read: list[str], damage: bytes):
    file = write(tmp_path / "a", b"one")
    hash_files([file], tmp_path / "cache")
    (kept,) = (tmp_path / "cache/hashes").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    assert hash_files([file], tmp_path / "cache") == [sha(b"one")] and read == ["a", "a"]
    assert kept.read_bytes() == whole
    kept.write_bytes(whole.replace(sha(b"one").encode(), sha(b"two").encode()))
    assert hash_files([file], tmp_path / "cache") == [sha(b"one")]


def test_two_workers_that_hash_at_once_lose_no_entries(tmp_path: Path, read: list[str]):
    one, two = write(tmp_path / "a", b"one"), write(tmp_path / "b", b"two")
    before = file_hashes._read_folder(tmp_path / "cache", tmp_path)
    hash_files([one], tmp_path / "cache")
    before.known["b"] = (file_hashes._state(two), sha(b"two"))
    file_hashes._write_folder(before, tmp_path)
    assert hash_files([one, two], tmp_path / "cache") == [sha(b"one"), sha(b"two")] and read == ["a"]


def test_the_cache_is_private_and_need_not_be_writable(tmp_path: Path, read: list[str]):
    file = write(tmp_path / "a", b"one")
    hash_files([file], tmp_path / "cache")
    (kept,) = (tmp_path / "cache/hashes").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    write(tmp_path / "occupied/hashes", b"a file where the folder should be")
    assert hash_files([file], tmp_path / "occupied") == [sha(b"one")]


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path, read: list[str]):
    file = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), b"one")
    for _ in range(2):
        assert hash_files([file], tmp_path / "cache") == [sha(b"one")]
    assert len(read) == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone: .*No such file"):
        hash_files([tmp_path / "gone"], tmp_path / "cache")


def test_hashing_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, honest, cancelled = write(tmp_path / "a", b"one"), file_hashes._digest, threading.Event()

    def digest(path: Path, progress: file_hashes._Progress) -> str:
        cancelled.wait(60)
        return honest(path, progress)

    def report(_done: int, of: int) -> None:
        assert of == 3
        cancelled.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(file_hashes, "_digest", digest)
    with pytest.raises(KeyboardInterrupt):
        hash_files([file], tmp_path / "cache", report)
    assert not (tmp_path / "cache").exists()
