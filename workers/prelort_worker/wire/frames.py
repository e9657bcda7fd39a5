"""Encodes the wire contract (src/protocol/README.md): frames, tensors in chunks, credit."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast
from zlib import crc32

import msgpack

from .encoding import encoded_bytes
from .messages import (
    Chunk,
    ClientColumns,
    ControllerMessage,
    Dtype,
    PartName,
    Shared,
    TableDescriptor,
    TensorDescriptor,
    TensorName,
    WorkerMessage,
    from_wire,
    to_wire,
)
from .shared_memory import borrow
from .validation import describe, to_map

CHUNK_BYTES = 4 * 1024 * 1024
CREDIT_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = CHUNK_BYTES + 1024 * 1024
# Limits of any list and any map, far above what a message for a worker has; validating millions would take seconds.
MAX_ITEMS, MAX_KEYS = 65536, 1000


class WireError(ValueError):
    """The peer broke the contract; the message names what was expected and what came."""


@dataclass(frozen=True)
class Tensor:
    """Encoded values in row-major order, with their shape."""

    shape: tuple[int, ...]
    data: memoryview
    dtype: Dtype | Literal["U8"] = "F32"


Payload: TypeAlias = Mapping[PartName, Tensor]


def pack(message: ControllerMessage | WorkerMessage) -> bytes:
    packed = msgpack.packb(to_wire(message))
    assert packed is not None  # it is None only when a stream is given
    return packed


def unpack(frame: bytes) -> ControllerMessage | WorkerMessage:
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(f"frame: expected at most {MAX_FRAME_BYTES} bytes, got {len(frame)}")
    try:
        value = msgpack.unpackb(frame, max_array_len=MAX_ITEMS, max_map_len=MAX_KEYS)
    except Exception as error:  # msgpack raises several unrelated types
        raise WireError(f"frame: expected one msgpack map, got {describe(frame)} ({error})") from error
    try:
        return from_wire(value)
    except ValueError as error:
        raise WireError(str(error)) from error


def pack_clients(columns: ClientColumns) -> Payload:
    """The tensor that belongs to `prepared`."""
    content = msgpack.packb(to_map(columns))
    assert content is not None  # as in pack
    return {"clients": Tensor((len(content),), memoryview(content), "U8")}


def describe_payload(payload: Payload) -> list[TensorDescriptor]:
    """Descriptors of tensors that follow in chunks."""
    return [_describe(name, tensor, crc32(tensor.data), None) for name, tensor in payload.items()]


def describe_lent(payload: Payload, locations: Mapping[PartName, Shared]) -> list[TensorDescriptor]:
    """Descriptors of tensors in shared memory."""
    return [_describe(name, tensor, None, locations[name]) for name, tensor in payload.items()]


def _describe(name: PartName, tensor: Tensor, checksum: int | None, shared: Shared | None) -> TensorDescriptor:
    own = cast(TensorName, name), cast(Dtype, tensor.dtype)  # all but the table of clients
    return TensorDescriptor(*own, list(tensor.shape), tensor.data.nbytes, checksum, shared)


def describe_clients(payload: Payload) -> list[TableDescriptor]:
    """The descriptor of the table of clients, which follows in chunks."""
    table = payload["clients"]
    return [TableDescriptor("clients", "U8", list(table.shape), table.data.nbytes, crc32(table.data), None)]


def borrow_payload(descriptors: list[TensorDescriptor], pid: int) -> Payload:
    """Maps the tensors that the process shares. Raises OSError where that fails."""
    _check(descriptors)
    return {
        tensor.name: Tensor(
            tuple(tensor.shape), borrow(pid, tensor.shared.fd, tensor.shared.offset, tensor.bytes), tensor.dtype
        )
        for tensor in descriptors
        if tensor.shared
    }


def chunk_payload(task_id: str, attempt: int, payload: Payload) -> Iterator[Chunk]:
    for name, tensor in payload.items():
        for offset in range(0, tensor.data.nbytes, CHUNK_BYTES):
            yield Chunk(task_id, attempt, name, offset, bytes(tensor.data[offset : offset + CHUNK_BYTES]))


class Assembly:
    """Assembles the tensors of one message from chunks, which arrive in the order of the descriptors."""

    def __init__(self, descriptors: list[TensorDescriptor]) -> None:
        _check(descriptors)
        self._descriptors: dict[PartName, TensorDescriptor] = {tensor.name: tensor for tensor in descriptors}
        # Grow as chunks arrive: an announced size may exceed memory, and its bytes may never come.
        self._buffers: dict[PartName, bytearray] = {tensor.name: bytearray() for tensor in descriptors}
        # (name, offset) of the next missing byte of each tensor that has any bytes.
        self._expected: list[tuple[PartName, int]] = [(tensor.name, 0) for tensor in descriptors if tensor.bytes]

    def add(self, chunk: Chunk) -> None:
        came = (chunk.tensor, chunk.offset)
        if not self._expected or came != self._expected[0]:
            expected = _spell(*self._expected[0]) if self._expected else "end"
            raise WireError(f"chunk of {chunk.task_id}: expected {expected}, got {_spell(*came)}")
        size, stop = self._descriptors[chunk.tensor].bytes, chunk.offset + len(chunk.data)
        if not 0 < len(chunk.data) <= CHUNK_BYTES or stop > size:
            room = min(CHUNK_BYTES, size - chunk.offset)
            raise WireError(f"chunk of {chunk.task_id}: expected 1 to {room} bytes, got {len(chunk.data)}")
        self._buffers[chunk.tensor] += chunk.data
        if stop == size:
            self._expected.pop(0)
        else:
            self._expected[0] = (chunk.tensor, stop)

    def finish(self) -> Payload:
        if self._expected:
            raise WireError(f"end: expected the rest of {_spell(*self._expected[0])} first")
        for name, buffer in self._buffers.items():
            checksum = crc32(buffer)
            if checksum != self._descriptors[name].crc32:
                raise WireError(f"tensor {name}: expected crc32 {self._descriptors[name].crc32}, got {checksum}")
        return {
            name: Tensor(tuple(self._descriptors[name].shape), memoryview(buffer), self._descriptors[name].dtype)
            for name, buffer in self._buffers.items()
        }


class CreditWindow:
    """Bytes of chunk data that may still be sent. At most CREDIT_BYTES are in flight."""

    def __init__(self) -> None:
        self._available = CREDIT_BYTES

    def take(self, size: int) -> bool:
        """Whether a chunk of that size may be sent now; if so, counts it as sent."""
        if size > self._available:
            return False
        self._available -= size
        return True

    def give_back(self, size: int) -> None:
        if self._available + size > CREDIT_BYTES:
            raise WireError(f"credit: expected at most {CREDIT_BYTES - self._available} bytes back, got {size}")
        self._available += size


def _check(descriptors: list[TensorDescriptor]) -> None:
    for tensor in descriptors:
        if len(tensor.shape) not in (1, 2):
            raise WireError(f"tensor {tensor.name}: expected 1 or 2 sides, got {len(tensor.shape)}")
        if tensor.bytes != encoded_bytes(tensor.dtype, math.prod(tensor.shape)):
            raise WireError(
                f"tensor {tensor.name}: shape {tensor.shape} of {tensor.dtype} does not take {tensor.bytes} bytes"
            )
        if (tensor.crc32 is None) == (tensor.shared is None):
            raise WireError(f"tensor {tensor.name}: expected either a crc32 or shared memory")
    names = [tensor.name for tensor in descriptors]
    if len(set(names)) < len(names):
        raise WireError(f"tensors: expected each name once, got {', '.join(names)}")
    if len({tensor.shared is None for tensor in descriptors}) > 1:
        raise WireError("tensors: expected all in shared memory, or none")


def _spell(name: PartName, offset: int) -> str:
    return f"{name} at offset {offset}"
