"""What the messages have in common: the types of tensors, and how a message announces them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .validation import Count, Positive

# `merged` [n, width]: components merged into the base model for this task; `state` [size]: of a client's optimizer.
TensorName: TypeAlias = Literal["rows", "dense", "merged", "state"]
# What travels as tensors: also the table of clients of `prepared`, the values of `evaluated`, and the bytes
# of `keep`.
PartName: TypeAlias = Literal["rows", "dense", "merged", "state", "clients", "examples", "kept"]
# Named as in safetensors, except I8X256: see encoding.py.
Dtype: TypeAlias = Literal["F32", "BF16", "F16", "I8X256"]
# Of a partial sum's integers: float64, or two's complement of so many bits.
IntegerDtype: TypeAlias = Literal["F64", "I8", "I16", "I24", "I32", "I40", "I48", "I56"]
# `U8` is the bytes of a table.
WireDtype: TypeAlias = Dtype | IntegerDtype | Literal["U8"]


@dataclass(frozen=True)
class Shared:
    """A file descriptor, and the tensor's offset in that file."""

    # The process whose descriptor it is: of another worker on this machine. None: the sender's.
    pid: Positive | None
    fd: Count
    offset: Count


@dataclass(frozen=True)
class TensorDescriptor:
    """A tensor that either follows in chunks, with a checksum, or lies in the sender's shared memory."""

    name: TensorName
    dtype: Dtype | IntegerDtype
    shape: list[Count]
    bytes: Count
    crc32: Count | None
    shared: Shared | None


@dataclass(frozen=True)
class TableDescriptor:
    """The table of clients as a tensor of bytes: a ClientColumns as a msgpack map."""

    name: Literal["clients"]
    dtype: Literal["U8"]
    shape: list[Count]
    bytes: Count
    crc32: Count | None
    shared: Shared | None


@dataclass(frozen=True)
class ExamplesDescriptor:
    """The values of evaluated examples: a row for each column, in which one rank's examples follow the other's."""

    name: Literal["examples"]
    dtype: Literal["F64"]
    shape: list[Count]
    bytes: Count
    crc32: Count | None
    shared: Shared | None


@dataclass(frozen=True)
class KeptDescriptor:
    """Bytes to keep."""

    name: Literal["kept"]
    dtype: Literal["U8"]
    shape: list[Count]
    bytes: Count
    crc32: Count | None
    shared: Shared | None
