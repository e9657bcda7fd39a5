"""
Encodes float32 values: unchanged, in half the bytes, or in a quarter.

I8X256 consists of groups of 256 values (the last may be shorter), each a float32 scale followed by one int8 per value,
which stands for the float32 nearest to scale·int8. Updates are rounded stochastically: to one of the two neighbours, so
that the expected value is exact. Errors average out over clients and rounds, and no error feedback has to be kept.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .fields import Dtype, IntegerDtype, WireDtype

GROUP = 256
# Values rounded at a time, which bounds the float64 intermediates; a multiple of GROUP.
STRETCH = 1024 * GROUP
# Integers packed at a time: what is between fits in a processor's cache.
BLOCK = 16384

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
# A bit generator whose stream NumPy guarantees to be stable.
Random = np.random.PCG64


# Bytes of a value; I8X256 also has scales.
_WIDTHS: dict[WireDtype, int] = {
    "U8": 1,
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "I8X256": 1,
    "F64": 8,
    "I8": 1,
    "I16": 2,
    "I24": 3,
    "I32": 4,
    "I40": 5,
    "I48": 6,
    "I56": 7,
}


def encoded_bytes(dtype: WireDtype, length: int) -> int:
    """Bytes that `length` values take."""
    scales = 4 * math.ceil(length / GROUP) if dtype == "I8X256" else 0
    return length * _WIDTHS[dtype] + scales


def encode_integers(integers: NDArray[np.float64], packed: bool) -> tuple[Bytes, IntegerDtype]:
    """As float64, or in two's complement of as few whole bytes as the largest needs."""
    if not packed:
        return integers.astype("<f8", copy=False).view(np.uint8), "F64"
    largest = max(float(integers.max(initial=0)), -float(integers.min(initial=0)) - 1)
    width = (int(largest).bit_length() + 8) // 8  # one more bit for the sign
    encoded = np.empty((len(integers), width), np.uint8)
    for start in range(0, len(integers), BLOCK):
        part = integers[start : start + BLOCK].astype("<i8")
        encoded[start : start + BLOCK] = part.view(np.uint8).reshape(-1, 8)[:, :width]
    return encoded.reshape(-1), _PACKED[width - 1]


_PACKED: tuple[IntegerDtype, ...] = ("I8", "I16", "I24", "I32", "I40", "I48", "I56")


# Values that are not finite stay so; no warning is needed, since the controller refuses them.
@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def encode(values: Floats, dtype: Dtype, seed: int) -> Bytes:
    """Rounds stochastically with this seed; leaves float32 unchanged."""
    if dtype == "F32":
        return values.astype("<f4", copy=False).view(np.uint8)
    random = np.random.PCG64(seed)
    round_stretch = _ROUNDINGS[dtype]
    encoded = np.empty(encoded_bytes(dtype, len(values)), np.uint8)
    at = 0
    for start in range(0, len(values), STRETCH):
        part = round_stretch(values[start : start + STRETCH], random)
        encoded[at : at + len(part)] = part
        at += len(part)
    return encoded


@np.errstate(invalid="ignore")
def decode(data: memoryview, dtype: WireDtype, length: int) -> Floats:
    """The values of an adapter or an update: a new float32 array, or a view where the data is float32 already."""
    if dtype == "F32":
        return np.frombuffer(data, "<f4")
    if dtype == "BF16":
        bits = np.frombuffer(data, "<u2").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if dtype != "I8X256":
        raise ValueError(f"{dtype}: expected the dtype of an adapter or an update")
    scales, steps = _groups(np.frombuffer(data, np.uint8), length)
    return (scales * steps).reshape(-1)[:length]


def _round_to_bfloat16(values: Floats, random: Random) -> Bytes:
    """The upper half of the bits, after adding random ones to the lower half: the carry is the rounding."""
    bits = values.view(np.uint32)
    carried = bits + _random(np.uint16, len(values), random)
    if not np.isfinite(values).all():
        # A NaN whose only set mantissa bits are low ones would become an infinity.
        kept = np.where(np.isnan(values), bits | 0x00400000, bits)
        carried = np.where(np.isfinite(values), carried, kept)
    return (carried >> 16).astype("<u2").view(np.uint8)


def _round_to_float16(values: Floats, random: Random) -> Bytes:
    """In units of the last of its ten fraction bits; below 2^-14 the unit is 2^-24."""
    wide = values.astype(np.float64)
    _, exponent = np.frexp(wide)
    unit = np.maximum(exponent - 1, -14) - 10
    rounded = np.ldexp(np.floor(np.ldexp(wide, -unit) + _uniform(len(values), random)), unit)
    return rounded.astype("<f2").view(np.uint8)


def _round_to_int8(values: Floats, random: Random) -> Bytes:
    n_groups = math.ceil(len(values) / GROUP)
    padded = np.zeros((n_groups, GROUP), np.float64)
    padded.reshape(-1)[: len(values)] = values
    largest = np.abs(padded).max(axis=1, keepdims=True)
    # At least the exact quotient, so that no value exceeds 127 steps.
    scales = (largest / 127).astype("<f4")
    scales = np.where(scales * np.float64(127) < largest, np.nextafter(scales, np.float32(np.inf)), scales)
    steps = np.floor(padded / scales + _uniform(padded.size, random).reshape(padded.shape))
    steps = np.where(np.isfinite(steps), steps, 0)  # the scale is 0 or not finite
    groups = np.empty((n_groups, 4 + GROUP), np.uint8)
    groups[:, :4] = scales.astype("<f4").view(np.uint8)
    groups[:, 4:] = steps.astype(np.int8).view(np.uint8)
    return groups.reshape(-1)[: encoded_bytes("I8X256", len(values))]


def _groups(encoded: Bytes, length: int) -> tuple[Floats, NDArray[np.int8]]:
    """Scales [groups, 1] and int8 [groups, 256]."""
    n_groups = math.ceil(length / GROUP)
    padded = np.zeros((n_groups, 4 + GROUP), np.uint8)
    padded.reshape(-1)[: len(encoded)] = encoded
    return padded[:, :4].copy().view("<f4"), padded[:, 4:].view(np.int8)


def _uniform(length: int, random: Random) -> NDArray[np.float64]:
    """In [0, 1), 32 bits of resolution."""
    return _random(np.uint32, length, random) / np.float64(2**32)


def _random(kind: type[np.unsignedinteger], length: int, random: Random) -> NDArray[np.unsignedinteger]:
    words = random.random_raw(math.ceil(length * np.dtype(kind).itemsize / 8))
    return np.asarray(words, "<u8").view(kind)[:length]


_ROUNDINGS: dict[Dtype, Callable[[Floats, Random], Bytes]] = {
    "BF16": _round_to_bfloat16,
    "F16": _round_to_float16,
    "I8X256": _round_to_int8,
}
