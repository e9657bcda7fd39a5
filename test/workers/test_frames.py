"""Frames, tensors in chunks, credit, and the order of mail."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from prelort_worker.wire import frames
from prelort_worker.wire.fields import Shared, TensorDescriptor
from prelort_worker.wire.frames import (
    Assembly,
    CreditWindow,
    Payload,
    Tensor,
    WireError,
    borrow_payload,
    chunk_payload,
    describe_lent,
    describe_payload,
    pack,
    unpack,
)
from prelort_worker.wire.mailbox import Inbox, Job, Outbox
from prelort_worker.wire.messages import Cancel, Chunk, Credit, End, Failure, Fit, Fitted, Stop, to_wire
from prelort_worker.wire.shared_memory import Lender, can_share_with
from specs import FIT, SEED

FIXTURES = Path(__file__).parents[1] / "fixtures" / "wire"
GOLDEN = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
PAYLOAD: Payload = {
    "rows": Tensor((2, 3), memoryview(bytes(range(24)))),
    "dense": Tensor((2,), memoryview(bytes(range(8)))),
}


def with_bytes(message: dict[str, Any]) -> dict[str, Any]:
    return {
        key: bytes.fromhex(value["hex"]) if isinstance(value, dict) and "hex" in value else value
        for key, value in message.items()
    }


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["file"])
def test_golden_bytes_are_read_as_expected_and_written_back_equal(golden: dict[str, Any]):
    expected = with_bytes(golden["message"])
    data = [expected["data"]] if expected["type"] == "chunk" else []
    message = unpack((FIXTURES / golden["file"]).read_bytes(), *data)
    assert to_wire(message) == expected
    assert unpack(*pack(message)) == message


def test_every_message_type_has_golden_bytes():
    names = {golden["message"]["type"] for golden in GOLDEN}
    assert names == {
        kind.__name__.lower() for kind in frames.ControllerMessage.__args__ + frames.WorkerMessage.__args__
    }


def fit_map(**changes: Any) -> dict[str, Any]:
    return {**to_wire(fit_message()), **changes}


def fit_message(task_id: str = "t", attempt: int = 1) -> Fit:
    return Fit(task_id, attempt, 1, "c00", 2, 2.0, SEED, FIT, "F32", describe_payload(PAYLOAD))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"r": "2"}, "fit.r: expected an integer, got str '2'"),
        ({"r": True}, "fit.r: expected an integer, got bool True"),
        ({"r": 0}, "fit.r: expected at least 1, got 0"),
        ({"r": 1e308}, "fit.r: expected at most 9007199254740991, got int 1000000000"),
        ({"round": 2**53}, "fit.round: expected at most 9007199254740991, got int 9007199254740992"),
        ({"scale": float("nan")}, "fit.scale: expected a finite number, got float nan"),
        ({"scale": None}, "fit.scale: expected a finite number, got NoneType None"),
        (
            {"fit": {**to_wire(fit_message())["fit"], "objective": "all"}},
            "fit.fit.objective: expected one of none, sum",
        ),
        ({"tensors": [{"name": "rows"}]}, "fit.tensors[0]: missing bytes, crc32, dtype, shape"),
        (
            {"fit": {**to_wire(fit_message())["fit"], "freeze_a": 1}},
            "fit.fit.freeze_a: expected true or false, got int 1",
        ),
        ({"tensors": {}}, "fit.tensors: expected a list, got dict {}"),
        ({"colour": "red"}, "fit: unknown colour"),
    ],
)
def test_a_message_that_breaks_the_contract_is_refused_and_its_key_named(changes: dict[str, Any], reason: str):
    with pytest.raises(WireError) as refused:
        unpack(msgpack.packb(fit_map(**changes)) or b"")
    assert str(refused.value).startswith(reason)


def chunk_map(**changes: Any) -> bytes:
    fields = {"type": "chunk", "protocol_version": 15, "task_id": "t", "attempt": 1, "tensor": "rows", "offset": 0}
    return msgpack.packb({**fields, **changes}) or b""


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([chunk_map()], "chunk: missing data"),
        ([chunk_map(data=b"1234")], "chunk.data: expected a frame of bytes, got bytes b'1234'"),
        ([chunk_map(data=b"1234"), b"1234"], "chunk.data: expected a frame of bytes, got bytes b'1234'"),
        ([chunk_map(), b"1234", b"5678"], "message: expected two frames, got 3"),
        ([msgpack.packb(fit_map()) or b"", b"1234"], "message: expected one frame, got 2"),
        ([b"1234", chunk_map()], "frame: expected one msgpack map"),
        ([], "frame: expected one msgpack map"),
        ([chunk_map(), bytes(frames.MAX_FRAME_BYTES + 1)], "frame: expected at most 5242880 bytes"),
    ],
)
def test_only_a_chunk_has_a_second_frame_which_is_its_data(parts: list[bytes], reason: str):
    with pytest.raises(WireError) as refused:
        unpack(*parts)
    assert str(refused.value).startswith(reason)


def test_data_is_neither_packed_nor_copied():
    data = memoryview(bytearray(4))
    head, sent = pack(Chunk("t", 1, "rows", 0, data))
    assert sent is data and b"data" not in bytes(head)
    message = unpack(head, sent)
    assert isinstance(message, Chunk)
    data[0] = 7
    assert message.data[0] == 7


@pytest.mark.parametrize(
    ("value", "reason"),
    [([1] * 65537, "65537 exceeds max_array_len"), ({str(key): 1 for key in range(1001)}, "1001 exceeds max_map_len")],
)
def test_more_items_than_any_message_has_are_refused_before_validation(value: Any, reason: str):
    with pytest.raises(WireError, match=reason):
        unpack(msgpack.packb(fit_map(tensors=value)) or b"")


def test_an_integral_number_may_arrive_as_an_integer_or_a_float():
    message = unpack(msgpack.packb(fit_map(scale=2, round=3.0)) or b"")
    assert isinstance(message, Fit) and message.scale == 2.0 and message.round == 3


def test_a_number_that_is_not_finite_is_never_sent():
    fitted = Fitted("t", 1, "c00", 2, 2.0, 10, 1, 1, float("inf"), None, 0.1, None, [])
    with pytest.raises(ValueError, match=r"fitted\.loss: expected a finite number"):
        pack(fitted)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames, "CHUNK_BYTES", 10)
    monkeypatch.setattr(frames, "CREDIT_BYTES", 20)


@pytest.mark.usefixtures("small_chunks")
class TestChunks:
    def test_a_payload_cut_into_chunks_is_reassembled(self):
        chunks = list(chunk_payload("t", 1, PAYLOAD))
        assert [(chunk.tensor, chunk.offset, len(chunk.data)) for chunk in chunks] == [
            ("rows", 0, 10),
            ("rows", 10, 10),
            ("rows", 20, 4),
            ("dense", 0, 8),
        ]
        assembly = Assembly(describe_payload(PAYLOAD))
        for chunk in chunks:
            assembly.add(chunk)
        assert assembly.finish() == PAYLOAD

    @pytest.mark.parametrize(
        ("order", "reason"),
        [
            ([1], "chunk of t: expected rows at offset 0, got rows at offset 10"),
            ([0, 0], "chunk of t: expected rows at offset 10, got rows at offset 0"),
            ([3], "chunk of t: expected rows at offset 0, got dense at offset 0"),
            ([0, 1, 2, 3, 3], "chunk of t: expected end, got dense at offset 0"),
            ([0, 1, 2], r"end: .*\bdense at offset 0\b"),
        ],
    )
    def test_reordered_repeated_or_missing_chunks_are_refused(self, order: list[int], reason: str):
        chunks = list(chunk_payload("t", 1, PAYLOAD))
        assembly = Assembly(describe_payload(PAYLOAD))
        with pytest.raises(WireError, match=reason):
            for index in order:
                assembly.add(chunks[index])
            assembly.finish()

    def test_a_chunk_too_long_or_empty_is_refused(self):
        for data in (bytes(25), bytes(11), b""):
            with pytest.raises(WireError, match="chunk of t: expected 1 to 10 bytes"):
                Assembly(describe_payload(PAYLOAD)).add(Chunk("t", 1, "rows", 0, memoryview(data)))

    def test_the_checksum_detects_a_flipped_bit(self):
        assembly = Assembly(describe_payload({"dense": PAYLOAD["dense"]}))
        assembly.add(Chunk("t", 1, "dense", 0, memoryview(bytes([1, *range(1, 8)]))))
        with pytest.raises(WireError, match="tensor dense: expected crc32"):
            assembly.finish()

    def test_a_reply_waits_for_credit_and_keeps_its_order(self):
        outbox = Outbox()
        fitted = Fitted("t", 1, "c00", 2, 2.0, 10, 1, 1, 0.5, 0.5, 0.1, None, [])
        outbox.put(fitted, PAYLOAD, may_lend=False)
        outbox.put(replace(fitted, task_id="next", tensors=[]), {}, may_lend=False)

        def sent() -> list[str]:
            return [f"{type(part).__name__} {getattr(part, 'task_id', '')}" for part in outbox.sendable()]

        assert sent() == ["Fitted t", "Chunk t", "Chunk t"]
        assert sent() == []
        outbox.window.give_back(10)
        assert sent() == ["Chunk t"]
        outbox.window.give_back(10)
        assert sent() == ["Chunk t", "End t", "Fitted next"]


@pytest.mark.parametrize("shape", [[], [1, 1, 1], [2**53 - 1] * 50_000])
def test_a_tensor_without_one_or_two_dimensions_is_refused_before_its_size_is_computed(shape: list[int]):
    with pytest.raises(WireError, match=f"tensor rows: expected 1 or 2 sides, got {len(shape)}"):
        Assembly([TensorDescriptor("rows", "F32", shape, 4, 0, None)])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_announced_tensor_takes_memory_only_as_its_chunks_arrive():
    size = 2**30
    before = resident_bytes()
    assembly = Assembly([TensorDescriptor("rows", "F32", [1, size // 4], size, 0, None)])
    assembly.add(Chunk("t", 1, "rows", 0, memoryview(bytes(8))))
    assert resident_bytes() - before < size / 8
    with pytest.raises(WireError, match=r"end: .*\brows at offset 8\b"):
        assembly.finish()


@pytest.mark.parametrize("size", [2**45, 2**52])
def test_a_tensor_larger_than_memory_is_refused_when_its_first_chunk_arrives(size: int):
    assembly = Assembly([TensorDescriptor("rows", "F32", [1, size // 4], size, 0, None)])
    with pytest.raises(WireError, match=rf"tensor rows: {size} bytes do not fit into memory"):
        assembly.add(Chunk("t", 1, "rows", 0, memoryview(bytes(8))))


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused():
    with pytest.raises(WireError, match=r"tensor rows: .*\[2, 3\].*\bF32\b.*\b20 bytes\b"):
        Assembly([TensorDescriptor("rows", "F32", [2, 3], 20, 0, None)])


def test_more_credit_than_was_used_is_refused():
    window = CreditWindow()
    assert window.take(100) and not window.take(frames.CREDIT_BYTES)
    with pytest.raises(WireError, match=r"credit: .*\b100\b.*\b101\b"):
        window.give_back(101)


class TestInbox:
    def test_a_task_becomes_a_job_once_its_tensors_are_complete_and_every_chunk_is_credited(self):
        inbox = Inbox(os.getpid())
        task = fit_message()
        answers = [*inbox.accept(task)]
        for chunk in chunk_payload("t", 1, PAYLOAD):
            answers += inbox.accept(chunk)
        assert inbox.jobs.empty()
        answers += inbox.accept(End("t", 1))
        assert answers == [Credit(24), Credit(8)]
        assert inbox.jobs.get_nowait() == Job(task, PAYLOAD)

    def test_parts_of_another_attempt_are_dropped_but_credited(self):
        inbox = Inbox(os.getpid())
        assert [*inbox.accept(fit_message(attempt=2))] == []
        assert [*inbox.accept(Chunk("t", 1, "rows", 0, memoryview(bytes(24))))] == [Credit(24)]
        assert [*inbox.accept(End("t", 1))] == []
        assert inbox.jobs.empty()

    def test_a_repeated_task_runs_once(self):
        inbox = Inbox(os.getpid())
        task = replace(fit_message(), tensors=[])
        assert [*inbox.accept(task), *inbox.accept(task)] == []
        assert inbox.jobs.qsize() == 1

    def test_a_task_cancelled_before_it_is_complete_is_answered_immediately(self):
        inbox = Inbox(os.getpid())
        list(inbox.accept(fit_message()))
        (failure,) = inbox.accept(Cancel("t", 1))
        assert isinstance(failure, Failure) and failure.error.kind == "cancelled"
        assert [*inbox.accept(End("t", 1))] == [] and inbox.jobs.empty()

    def test_stop_cancels_the_running_task(self):
        inbox = Inbox(os.getpid())
        list(inbox.accept(replace(fit_message(), tensors=[])))
        list(inbox.accept(Stop()))
        assert inbox.cancelled == {("t", 1)}

    def test_cancelling_an_answered_task_does_nothing(self):
        inbox = Inbox(os.getpid())
        list(inbox.accept(replace(fit_message(), tensors=[])))
        inbox.close(("t", 1))
        assert [*inbox.accept(Cancel("t", 1))] == [] and not inbox.cancelled


@pytest.mark.skipif(sys.platform != "linux", reason="tensors go in chunks elsewhere")
class TestSharedMemory:
    def lent(self, lender: Lender) -> list[TensorDescriptor]:
        return describe_lent(PAYLOAD, lender.lend({name: tensor.data for name, tensor in PAYLOAD.items()}))

    def test_borrowed_tensors_equal_the_lent_ones(self):
        descriptors = self.lent(Lender())
        assert [(tensor.crc32, tensor.shared and tensor.shared.offset) for tensor in descriptors] == [
            (None, 64),
            (None, 88),
        ]
        assert borrow_payload(descriptors, os.getpid()) == PAYLOAD

    def test_writes_to_borrowed_memory_do_not_reach_the_lender(self):
        descriptors = self.lent(Lender())
        borrow_payload(descriptors, os.getpid())["rows"].data[:4] = b"abcd"
        assert borrow_payload(descriptors, os.getpid()) == PAYLOAD

    def test_a_file_is_reused_only_after_its_reader_has_released_it(self):
        lender = Lender()
        files = [self.lent(lender)[0].shared for _ in range(2)]
        assert files[0] and files[1] and files[0].fd != files[1].fd
        os.pwrite(files[0].fd, b"\1", 0)
        files += [self.lent(lender)[0].shared for _ in range(2)]
        assert files[2] == files[0] and files[3] not in files[:3]
        assert borrow_payload(self.lent(lender), os.getpid()) == PAYLOAD

    def test_a_task_with_shared_tensors_is_a_job_at_once_and_its_answer_may_share_too(self):
        inbox = Inbox(os.getpid())
        task = replace(fit_message(), tensors=self.lent(Lender()))
        assert [*inbox.accept(task)] == []
        assert inbox.jobs.get_nowait() == Job(task, PAYLOAD)
        assert inbox.close(("t", 1)) and not inbox.close(("t", 1))

    def test_a_pipe_without_a_writer_is_refused_without_blocking(self, tmp_path: Path):
        os.mkfifo(tmp_path / "pipe")
        pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(OSError, match=r"\b88\b"):
            borrow_payload([replace(self.lent(Lender())[0], shared=Shared(None, pipe, 64))], os.getpid())
        os.close(pipe)

    def test_a_missing_or_short_file_fails_only_the_task(self):
        inbox = Inbox(os.getpid())
        rows = self.lent(Lender())[0]
        lent = rows.shared.fd if rows.shared else 0
        for index, shared in enumerate((Shared(None, 999_999, 0), Shared(None, lent, 100))):
            task = replace(fit_message(attempt=index + 1), tensors=[replace(rows, shared=shared)])
            (failure,) = inbox.accept(task)
            assert isinstance(failure, Failure) and failure.error.message.startswith("shared memory: ")
        assert inbox.jobs.empty()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"crc32": 1}, r"tensor rows: .*\bcrc32\b"),
            ({"shape": [2, 4]}, r"\[2, 4\].*\b24 bytes\b"),
        ],
    )
    def test_wrong_descriptors_are_refused(self, changes: dict[str, Any], reason: str):
        rows, dense = self.lent(Lender())
        with pytest.raises(WireError, match=reason):
            borrow_payload([replace(rows, **changes), dense], os.getpid())
        with pytest.raises(WireError, match=r"tensors: .*shared memory"):
            borrow_payload([rows, describe_payload(PAYLOAD)[1]], os.getpid())

    def test_an_answer_in_shared_memory_is_one_message(self):
        outbox = Outbox()
        fitted = Fitted("t", 1, "c00", 2, 2.0, 10, 1, 1, 0.5, 0.5, 0.1, None, [])
        outbox.put(fitted, PAYLOAD, may_lend=True)
        (sent,) = outbox.sendable()
        assert isinstance(sent, Fitted)
        assert borrow_payload(sent.tensors, os.getpid()) == PAYLOAD

    def test_without_room_in_shared_memory_an_answer_is_sent_in_chunks(self, monkeypatch: pytest.MonkeyPatch):
        def no_room(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", no_room)
        outbox = Outbox()
        outbox.put(Fitted("t", 1, "c00", 2, 2.0, 10, 1, 1, 0.5, 0.5, 0.1, None, []), PAYLOAD, may_lend=True)
        sent = list(outbox.sendable())
        assert [type(part) for part in sent] == [Fitted, Chunk, Chunk, End]
        assert sent[0] == replace(sent[0], tensors=describe_payload(PAYLOAD))

    def test_memory_is_shared_only_with_an_existing_process(self):
        assert can_share_with(os.getpid()) and not can_share_with(2**22 + 1)
