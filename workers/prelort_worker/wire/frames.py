"""
Encodes the wire contract (src/protocol/README.md): frames, tensors in chunks, credit.

NumPy is imported where tensors need it: a launcher on a cluster exchanges none, and its environment may lack NumPy.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast
from zlib import crc32

import msgpack

from .fields import (
    Dtype,
    ExamplesDescriptor,
    IntegerDtype,
    KeptDescriptor,
    PartName,
    Shared,
    TableDescriptor,
    TensorDescriptor,
    TensorName,
    WireDtype,
)
from .messages import Chunk, ClientColumns, ControllerMessage, WorkerMessage, from_wire, to_wire
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
    dtype: WireDtype = "F32"


Payload: TypeAlias = Mapping[PartName, Tensor]


def pack(message: ControllerMessage | WorkerMessage) -> list[bytes | memoryview]:
    """The frames of a message: a map and, after that of a chunk, its data as it is."""
    body = to_wire(message)
    data = [body.pop("data")] if isinstance(message, Chunk) else []
    packed = msgpack.packb(body)
    assert packed is not None  # it is None only when a stream is given
    return [packed, *data]


def unpack(head: bytes | memoryview = b"", *data: bytes | memoryview) -> ControllerMessage | WorkerMessage:
    for frame in (head, *data):
        if len(frame) > MAX_FRAME_BYTES:
            raise WireError(f"frame: expected at most {MAX_FRAME_BYTES} bytes, got {len(frame)}")
    try:
        value = msgpack.unpackb(head, max_array_len=MAX_ITEMS, max_map_len=MAX_KEYS)
    except Exception as error:  # msgpack raises several unrelated types
        raise WireError(f"frame: expected one msgpack map, got {describe(bytes(head[:100]))} ({error})") from error
    is_chunk = isinstance(value, dict) and value.get("type") == "chunk"
    # In the map there are only bytes, which are no memoryview.
    values = value | {"data": memoryview(data[0])} if is_chunk and data and "data" not in value else value
    try:
        message = from_wire(values)
    except ValueError as error:
        raise WireError(str(error)) from error
    if len(data) > is_chunk:
        raise WireError(f"message: expected {'two frames' if is_chunk else 'one frame'}, got {1 + len(data)}")
    return message


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
    # All but the table of clients and the values of examples.
    own = cast(TensorName, name), cast(Dtype | IntegerDtype, tensor.dtype)
    return TensorDescriptor(*own, list(tensor.shape), tensor.data.nbytes, checksum, shared)


def describe_clients(payload: Payload) -> list[TableDescriptor]:
    """The descriptor of the table of clients, which follows in chunks."""
    table = payload["clients"]
    return [TableDescriptor("clients", "U8", list(table.shape), table.data.nbytes, crc32(table.data), None)]


def describe_examples(payload: Payload) -> list[ExamplesDescriptor]:
    """The descriptor of the values of examples, which follow in chunks."""
    values = payload["examples"]
    return [ExamplesDescriptor("examples", "F64", list(values.shape), values.data.nbytes, crc32(values.data), None)]


def borrow_payload(descriptors: list[TensorDescriptor], sender: int) -> Payload:
    """Maps tensors in memory of the sender, a process of this pid, or of another. Raises OSError where that fails."""
    _check(descriptors)
    return {tensor.name: _borrow(tensor, tensor.shared, sender) for tensor in descriptors if tensor.shared}


def _borrow(tensor: TensorDescriptor, shared: Shared, sender: int) -> Tensor:
    data = borrow(sender if shared.pid is None else shared.pid, shared.fd, shared.offset, tensor.bytes)
    return Tensor(tuple(tensor.shape), data, tensor.dtype)


def chunk_payload(task_id: str, attempt: int, payload: Payload) -> Iterator[Chunk]:
    for name, tensor in payload.items():
        for offset in range(0, tensor.data.nbytes, CHUNK_BYTES):
            yield Chunk(task_id, attempt, name, offset, tensor.data[offset : offset + CHUNK_BYTES])


class Assembly:
    """Assembles the tensors of one message from chunks, which arrive in the order of the descriptors."""

    def __init__(self, descriptors: Sequence[TensorDescriptor | KeptDescriptor]) -> None:
        _check(descriptors)
        self._descriptors: dict[PartName, TensorDescriptor | KeptDescriptor] = {
            tensor.name: tensor for tensor in descriptors
        }
        # Allocated when the first chunk arrives. Memory is used only as far as it is written, so that an announced size
        # whose bytes never come costs nothing.
        self._buffers: dict[PartName, memoryview] = {}
        self._checksums: dict[PartName, int] = {tensor.name: 0 for tensor in descriptors}
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
        self._buffer(chunk.tensor)[chunk.offset : stop] = chunk.data
        self._checksums[chunk.tensor] = crc32(chunk.data, self._checksums[chunk.tensor])
        if stop == size:
            self._expected.pop(0)
        else:
            self._expected[0] = (chunk.tensor, stop)

    def finish(self) -> Payload:
        if self._expected:
            raise WireError(f"end: expected the rest of {_spell(*self._expected[0])} first")
        for name, checksum in self._checksums.items():
            if checksum != self._descriptors[name].crc32:
                raise WireError(f"tensor {name}: expected crc32 {self._descriptors[name].crc32}, got {checksum}")
        return {
            name: Tensor(tuple(tensor.shape), self._buffer(name), tensor.dtype)
            for name, tensor in self._descriptors.items()
        }

    def _buffer(self, name: PartName) -> memoryview:
        if name not in self._buffers:
            import numpy as np

            size = self._descriptors[name].bytes
            try:
                # NumPy asks for huge pages. In others, touching new memory takes longer than copying into it.
                self._buffers[name] = np.empty(size, np.uint8).data
            except (MemoryError, ValueError) as error:
                raise WireError(f"tensor {name}: {size} bytes do not fit into memory") from error
        return self._buffers[name]


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


def _check(descriptors: Sequence[TensorDescriptor | KeptDescriptor]) -> None:
    from .encoding import encoded_bytes

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
