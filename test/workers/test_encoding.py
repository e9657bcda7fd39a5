"""Values in fewer bits: rounded without bias, near enough, and as the golden bytes have them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prelort_worker.wire import encoding
from prelort_worker.wire.encoding import decode, encode, encoded_bytes
from prelort_worker.wire.fields import Dtype

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures/wire/encoded.json").read_text(encoding="utf-8"))
ROUNDED: tuple[Dtype, ...] = ("BF16", "F16", "I8X256")
# The distance of two neighbours, relative to the value and (of the group's largest, for int8) at least.
SPACING = {"BF16": (2**-7, 0.0), "F16": (2**-10, 2**-24), "I8X256": (0.0, 1 / 127)}

every_length = st.integers(0, 600)
every_seed = st.integers(0, 2**63 - 1)


def draw(length: int, seed: int) -> np.ndarray:
    """Of every size from 1e-9 to 60, of both signs, some of them zero."""
    rng = np.random.default_rng(seed)
    values = rng.choice([-1, 1, 0], length, p=[0.45, 0.45, 0.1]) * 60 * 10.0 ** -rng.uniform(0, 10, length)
    return values.astype(np.float32)


def spacing(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    relative, absolute = SPACING[dtype]
    if dtype == "I8X256":
        starts = np.arange(0, len(values), 256)
        largest = np.maximum.reduceat(np.abs(values), starts) if len(values) else values
        return np.repeat(largest, 256)[: len(values)] * absolute * (1 + 1e-6)
    return np.maximum(np.abs(values) * relative, absolute)


def there_and_back(values: np.ndarray, dtype: Dtype, seed: int) -> np.ndarray:
    data = encode(values, dtype, seed)
    assert len(data) == encoded_bytes(dtype, len(values))
    return decode(data.data, dtype, len(values))


@pytest.mark.parametrize("dtype", ROUNDED)
@given(length=every_length, seed=every_seed)
def test_a_value_becomes_one_of_its_two_neighbours(dtype: Dtype, length: int, seed: int):
    values = draw(length, seed)
    error = np.abs(there_and_back(values, dtype, seed) - values)
    assert (error <= spacing(values, dtype)).all()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_the_mean_over_many_seeds_is_the_value(dtype: Dtype):
    values = draw(512, 5)
    n = 4000
    mean = sum(there_and_back(values, dtype, seed).astype(np.float64) for seed in range(n)) / n
    # Between neighbours that far apart the standard deviation is half of that at most; 512 values are looked at.
    standard_error = spacing(values, dtype) / 2 / np.sqrt(n)
    assert (np.abs(mean - values) <= 5 * standard_error + 1e-7 * np.abs(values)).all()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_values_that_need_no_rounding_do_not_change(dtype: Dtype):
    values = np.array([127, -127, 1, 0, 64, -3, *range(-120, 120)], np.float32)
    assert (there_and_back(values, dtype, 1) == values).all()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_zeros_stay_zero_whatever_else_is_in_their_group(dtype: Dtype):
    values = np.zeros(700, np.float32)
    assert not there_and_back(values, dtype, 1).any()
    values[::7] = 1e-3
    assert not there_and_back(values, dtype, 1)[values == 0].any()


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.uint32(0x7F800001).view(np.float32)])
def test_values_that_are_not_finite_do_not_become_finite(dtype: Dtype, value: float):
    values = draw(300, 2)
    values[3] = value
    decoded = there_and_back(values, dtype, 1)
    assert not np.isfinite(decoded[3])
    assert dtype == "I8X256" or np.isfinite(np.delete(decoded, 3)).all()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_the_smallest_float32_values_are_encoded(dtype: Dtype):
    values = np.full(300, 2**-149, np.float32)
    assert set(there_and_back(values, dtype, 1).tolist()) <= {0.0, 2**-149, 2**-133, 2**-24}


@pytest.mark.parametrize("dtype", ROUNDED)
def test_only_the_seed_determines_the_rounding(dtype: Dtype):
    values = draw(2000, 7)
    first = encode(values, dtype, 11)
    assert (encode(values, dtype, 11) == first).all()
    assert (encode(values, dtype, 12) != first).any()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_long_tensors_are_rounded_in_pieces(dtype: Dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoding, "STRETCH", 512)
    values = draw(1300, 3)
    error = np.abs(there_and_back(values, dtype, 3) - values)
    assert (error <= spacing(values, dtype)).all()
    # Each stretch draws what the one before has not drawn.
    same = np.full(1024, 1.001, np.float32)
    decoded = there_and_back(same, dtype, 3)
    assert dtype == "I8X256" or (decoded[:512] != decoded[512:]).any()


def test_float32_is_not_changed():
    values = draw(100, 1)
    assert decode(encode(values, "F32", 0).data, "F32", 100).tobytes() == values.tobytes()


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["dtype"])
def test_golden_bytes_are_written_and_read_as_expected(golden: dict):
    values, decoded = (np.frombuffer(bytes.fromhex(golden[key]), "<f4") for key in ("values", "decoded"))
    data = encode(values.copy(), golden["dtype"], golden["seed"])
    assert data.tobytes().hex() == golden["encoded"]
    assert decode(data.data, golden["dtype"], len(values)).tobytes() == decoded.tobytes()
