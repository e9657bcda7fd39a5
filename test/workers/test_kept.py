"""What a worker keeps in memory for the workers of its machine."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from prelort_worker.wire.fields import KeptDescriptor, Shared, TensorDescriptor
from prelort_worker.wire.frames import describe_payload
from prelort_worker.wire.mailbox import Inbox, Job
from prelort_worker.wire.messages import Chunk, Credit, End, Failure, Fit, Keep, Kept
from prelort_worker.wire.shared_memory import memory_domain
from specs import FIT, SEED

BYTES = bytes(range(1, 25))

pytestmark = pytest.mark.skipif(memory_domain() is None, reason="needs memory that processes share")


def keep(inbox: Inbox, data: bytes, file: int = 0, size: int = 24, offset: int = 0) -> Kept | Failure:
    descriptor = KeptDescriptor("kept", "U8", [len(data)], len(data), crc32(data), None)
    parts = [
        Keep("keep/0", 1, file, size, offset, [descriptor]),
        *([Chunk("keep/0", 1, "kept", 0, memoryview(data))] if data else []),
        End("keep/0", 1),
    ]
    answers = [answer for part in parts for answer in inbox.accept(part)]
    assert [answer for answer in answers if isinstance(answer, Credit)] == ([Credit(len(data))] if data else [])
    last = answers[-1]
    assert isinstance(last, Kept | Failure)
    return last


def fit_from(pid: int, fd: int, rows: int = 2) -> Fit:
    place = Shared(pid, fd, 0)
    tensor = TensorDescriptor("rows", "F32", [rows, 3], 12 * rows, None, place)
    return Fit("t", 1, 1, "c00", rows, 2.0, SEED, FIT, "F32", [tensor])


def test_another_worker_reads_what_is_kept_and_does_not_lend_its_answer_to_the_controller():
    kept = keep(Inbox(None), BYTES)
    assert isinstance(kept, Kept)
    other = Inbox(None)
    assert list(other.accept(fit_from(os.getpid(), kept.fd))) == []
    job = other.jobs.get_nowait()
    assert isinstance(job, Job) and bytes(job.payload["rows"].data) == BYTES
    assert other.close(("t", 1)) is False


def test_a_file_grows_by_what_is_new_and_takes_other_bytes_later():
    inbox = Inbox(None)
    first = keep(inbox, BYTES[:12])
    rest = keep(inbox, BYTES[12:], offset=12)
    assert isinstance(first, Kept) and isinstance(rest, Kept) and first.fd == rest.fd
    assert os.pread(first.fd, 100, 0) == BYTES
    other = keep(inbox, b"other", size=5)
    assert isinstance(other, Kept) and os.pread(other.fd, 100, 0) == b"other"
    assert keep(inbox, b"", size=0) == replace(other)
    assert os.fstat(other.fd).st_size == 0
    second = keep(inbox, b"file", file=1, size=4)
    assert isinstance(second, Kept) and second.fd != first.fd


def test_memory_of_a_process_that_is_gone_is_reported_as_such():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    inbox = Inbox(None)
    (failure,) = inbox.accept(fit_from(gone.pid, 3))
    assert isinstance(failure, Failure) and failure.error.kind == "unshared"
    assert inbox.jobs.empty()
    # The controller sends it again, in chunks this time.
    again = replace(fit_from(1, 1), tensors=describe_payload({}))
    assert list(inbox.accept(again)) == []
    assert isinstance(inbox.jobs.get_nowait(), Job)


def test_no_room_fails_the_request_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    inbox = Inbox(None)
    monkeypatch.setattr(os, "memfd_create", no_room)
    failure = keep(inbox, BYTES)
    assert isinstance(failure, Failure) and failure.error.kind == "failed"
    monkeypatch.undo()
    assert isinstance(keep(inbox, BYTES), Kept)


def test_the_domain_is_that_of_other_processes_here_but_not_of_another_network_namespace():
    script = "from prelort_worker.wire.shared_memory import memory_domain; print(memory_domain())"

    def told(*prefix: str) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [*prefix, sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert told() == memory_domain()
    if os.geteuid() == 0 and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0:
        assert told("unshare", "--net") not in (memory_domain(), "None")


def test_a_file_with_a_name_is_not_read_as_what_another_worker_keeps(tmp_path: Path):
    # A worker of another machine with the same domain, as of a copied virtual machine, may have the same pid here.
    (tmp_path / "file").write_bytes(BYTES)
    with (tmp_path / "file").open("rb") as file:
        inbox = Inbox(None)
        (failure,) = inbox.accept(fit_from(os.getpid(), file.fileno()))
    assert isinstance(failure, Failure) and failure.error.kind == "unshared"
