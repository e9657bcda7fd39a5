"""What a worker adds up instead of sending it. The controller's side is held to the same bytes by golden sums."""

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from controller import worker_environment
from prelort_worker.training.partial_sum import PartialSum
from prelort_worker.wire.encoding import encode_integers
from prelort_worker.wire.frames import Payload, Tensor
from prelort_worker.wire.messages import Basis, Collect, Grant, Member, PartialSumSpec

BASIS = Basis(1, "ab" * 32, 2.0**10)
SPEC = PartialSumSpec(BASIS, 64.0, needs_norm=True)
COLLECT = Collect("collect", 1, BASIS, "F64")


def task(client: str, attempt: int = 1) -> Any:
    return SimpleNamespace(task_id=client, attempt=attempt, client_id=client)


def update(*rows: list[float], dense: tuple[float, ...] = ()) -> Payload:
    values = np.array(rows, "<f4")
    tensors: Payload = {"rows": Tensor(values.shape, values.reshape(-1).view(np.uint8).data)}
    return {**tensors, "dense": Tensor((len(dense),), np.array(dense, "<f4").view(np.uint8).data)} if dense else tensors


def integers(payload: Payload, name: Any = "rows") -> list[float]:
    return np.frombuffer(payload[name].data, "<f8").tolist()


def test_granted_updates_are_added_with_their_weights_and_longer_ones_extend_the_sum():
    total = PartialSum(BASIS)
    assert total.hold(task("a"), update([1, -0.5], dense=(2,)), SPEC) == math.sqrt(1 + 0.25 + 4)
    total.hold(task("b"), update([0.25, 0], [3, 0], dense=(1,)), SPEC)
    total.grant(Grant("a", 1, 3.0))
    total.grant(Grant("b", 1, 2.0))
    collected, payload = total.collect(COLLECT)
    assert collected.members == [Member("a", 1), Member("b", 1)]
    assert payload["rows"].shape == (2, 2)
    assert integers(payload) == [1024 * 3.5, 1024 * -1.5, 1024 * 6, 0]
    assert integers(payload, "dense") == [1024 * 8]


def test_a_sum_starts_at_zero_after_it_was_collected():
    total = PartialSum(BASIS)
    for client in ("a", "b"):
        total.hold(task(client), update([1.0]), SPEC)
        total.grant(Grant(client, 1, 1.0))
        collected, payload = total.collect(COLLECT)
        assert (collected.members, integers(payload)) == ([Member(client, 1)], [1024])


def test_a_sum_starts_at_zero_even_if_the_last_one_could_not_be_sent(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    total = PartialSum(BASIS)
    total.hold(task("a"), update([1.0], [2.0]), SPEC)
    total.grant(Grant("a", 1, 1.0))
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr("prelort_worker.training.partial_sum.encode_integers", fail)
        total.collect(COLLECT)
    total.hold(task("a", 2), update([1.0]), SPEC)
    total.grant(Grant("a", 2, 1.0))
    collected, payload = total.collect(COLLECT)
    assert (collected.members, integers(payload)) == ([Member("a", 2)], [1024])


def test_an_update_that_was_not_granted_or_refused_or_granted_twice_is_not_in_the_sum():
    total = PartialSum(BASIS)
    for client in ("a", "b", "c"):
        total.hold(task(client), update([1.0]), SPEC)
    total.grant(Grant("a", 1, 1.0))
    total.grant(Grant("a", 1, 1.0))
    total.grant(Grant("b", 1, None))
    total.grant(Grant("b", 1, 1.0))
    total.grant(Grant("c", 2, 1.0))
    collected, payload = total.collect(COLLECT)
    assert (collected.members, integers(payload)) == ([Member("a", 1)], [1024])


@pytest.mark.parametrize("value", [math.nan, math.inf, -64.5])
def test_an_update_with_a_value_out_of_bounds_is_refused_and_not_held(value: float):
    total = PartialSum(BASIS)
    with pytest.raises(ValueError, match=r"client a: rows\[2\].*\b64\b"):
        total.hold(task("a"), update([0, 1], [value, 0]), SPEC)
    total.grant(Grant("a", 1, 1.0))
    assert total.collect(COLLECT)[0].members == []


def test_a_sum_of_another_round_is_refused():
    total = PartialSum(BASIS)
    with pytest.raises(ValueError, match="basis"):
        total.collect(Collect("collect", 1, Basis(2, BASIS.adapter, BASIS.resolution), "F64"))


@pytest.mark.parametrize("bits", [8, 16, 24, 32, 40, 48, 54])
def test_integers_take_as_few_bytes_as_the_largest_needs(bits: int):
    for extreme in (2 ** (bits - 1) - 1, -(2 ** (bits - 1))):
        values = np.array([extreme, 0, -1, 1], np.float64)
        data, dtype = encode_integers(values, packed=True)
        width = math.ceil(bits / 8)
        assert dtype == f"I{8 * width}"
        parts = [data[at : at + width].tobytes() for at in range(0, len(data), width)]
        read = [int.from_bytes(part, "little", signed=True) for part in parts]
        assert read == [extreme, 0, -1, 1]
    beyond, _ = encode_integers(np.array([2.0 ** (bits - 1)]), packed=True)
    assert len(beyond) == (math.ceil(bits / 8) + 1 if bits % 8 == 0 else math.ceil(bits / 8))


def test_a_worker_that_fails_to_add_an_update_ends_at_once_so_that_no_sum_holds_a_part_of_it():
    script = """
from types import SimpleNamespace
from prelort_worker import serve as worker
from prelort_worker.wire.messages import Grant

def grant(_):
    raise MemoryError("no room for the sum")

worker._handle(SimpleNamespace(), SimpleNamespace(grant=grant), Grant("fit", 1, 1.0))
print("went on")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], env=worker_environment(), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (6, "")
    assert "MemoryError: no room for the sum" in ended.stderr
