"""
How float32 values travel: as they are, in half the bytes, or in a quarter.

I8X256 is groups of 256 values (the last may be shorter), each a float32 scale and then an int8 for every value, which
stands for the float32 nearest to scale·int8. What a client sends is rounded at random, to one of the two neighbours
and so that the expected value is the value: errors average out over clients and rounds, and nothing has to be kept.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .messages import Dtype

GROUP = 256
# Values that are rounded at a time, so that what is computed in float64 stays small; a whole number of groups.
STRETCH = 1024 * GROUP

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
# Raw bits of a generator whose stream NumPy promises to keep.
Random = np.random.PCG64


def encoded_bytes(dtype: Dtype, length: int) -> int:
    """Bytes that so many values take."""
    if dtype == "I8X256":
        return length + 4 * math.ceil(length / GROUP)
    return length * (4 if dtype == "F32" else 2)


# What is not finite stays so, and needs no warning: the controller refuses it.
@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def encode(values: Floats, dtype: Dtype, seed: int) -> Bytes:
    """Rounded at random by this seed; float32 as it is."""
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
def decode(data: memoryview, dtype: Dtype, length: int) -> Floats:
    """Float32 of its own, except where it came as such: then a view."""
    if dtype == "F32":
        return np.frombuffer(data, "<f4")
    if dtype == "BF16":
        bits = np.frombuffer(data, "<u2").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    scales, steps = _groups(np.frombuffer(data, np.uint8), length)
    return (scales * steps).reshape(-1)[:length]


def _round_to_bfloat16(values: Floats, random: Random) -> Bytes:
    """The upper half of the bits, after adding random ones to the lower half: the carry is the rounding."""
    bits = values.view(np.uint32)
    carried = bits + _random(np.uint16, len(values), random)
    if not np.isfinite(values).all():
        # A NaN of whose bits only lower ones are set would become an infinity.
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
    # Not below the exact quotient, so that no value lies beyond 127 steps.
    scales = (largest / 127).astype("<f4")
    scales = np.where(scales * np.float64(127) < largest, np.nextafter(scales, np.float32(np.inf)), scales)
    steps = np.floor(padded / scales + _uniform(padded.size, random).reshape(padded.shape))
    steps = np.where(np.isfinite(steps), steps, 0)  # a scale of 0, or one that is not finite, has none
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
