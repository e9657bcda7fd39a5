"""A real worker process, over a real socket."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from controller import WORKERS, Controller, real_worker, worker_command, worker_environment
from prelort_worker.wire.frames import Payload, Tensor, chunk_payload, describe_payload, pack, unpack
from prelort_worker.wire.generation_messages import Asked, Generate, Generated, Text, Turn
from prelort_worker.wire.messages import (
    PROTOCOL_VERSION,
    Basis,
    Beat,
    Cancel,
    Chunk,
    Collect,
    Collected,
    Credit,
    End,
    Evaluate,
    Evaluated,
    Failure,
    Fit,
    Fitted,
    Grant,
    Hello,
    Load,
    Loaded,
    Member,
    PartialSumSpec,
    Prepare,
    Prepared,
    Stop,
    Unavailable,
)
from prelort_worker.wire.specs import FitSpec
from specs import FIT, LORA, SEED, data_spec, model_spec
from sums import sums_at

EXIT_WIRE = 4


@pytest.fixture
def socket_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def loaded_worker(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Controller, Payload]]:
    with real_worker(tmp_path_factory.mktemp("s")) as worker:
        yield worker, come_up(worker, tiny, tmp_path_factory.mktemp("cache"), "causal-lm")


def come_up(worker: Controller, tiny: Path, cache: Path, task: str) -> Payload:
    """hello → prepare → load. Gives a global adapter, its rows drawn here."""
    hello = worker.expect(Hello)
    assert (hello.pid, hello.threads, hello.device.type) == (worker.process.pid, 1, "cpu")
    assert {"python", "torch", "peft"} <= hello.versions.keys()
    model = model_spec(tiny, task)
    prepared, _ = worker.run(Prepare("prepare", 1, SEED, model, LORA, data_spec(tiny, task), str(cache)), Prepared)
    loaded, payload = worker.run(Load("load", 1, SEED, model, LORA, prepared.index, [], str(cache)), Loaded)
    width = sum(module.in_ + module.out for module in loaded.modules)
    return {"rows": tensor(np.random.default_rng(0).normal(0, 0.1, (8, width))), **payload}


def tensor(values: np.ndarray) -> Tensor:
    return Tensor(values.shape, memoryview(values.astype("<f4").tobytes()))


def prefix(adapter: Payload, r: int) -> Payload:
    width = adapter["rows"].shape[1]
    return {**adapter, "rows": Tensor((r, width), adapter["rows"].data[: 4 * r * width])}


def fit_task(task_id: str, adapter: Payload, r: int, spec: FitSpec = FIT) -> Fit:
    return Fit(task_id, 1, 1, "c01", r, 2.0, SEED, spec, "F32", describe_payload(adapter))


def test_it_says_hello_prepares_loads_fits_evaluates_and_stops(tiny: Path, tmp_path: Path, socket_folder: Path):
    with real_worker(socket_folder) as worker:
        adapter = come_up(worker, tiny, tmp_path, "sequence-classification")
        received = prefix(adapter, 4)
        fitted, delta = worker.run(fit_task("fit", received, 4), Fitted, received)
        evaluate = Evaluate("evaluate", 1, 1, "global", None, [1, 8], 2.0, 0, 24, 8, 0, describe_payload(adapter))
        evaluated = worker.run(evaluate, Evaluated, adapter)
        worker.send(Stop())
        assert worker.process.wait(600) == 0

    assert (fitted.client_id, fitted.r, fitted.n, fitted.steps, fitted.passes) == ("c01", 4, 34, 4, 4)
    assert {name: part.shape for name, part in delta.items()} == {name: part.shape for name, part in received.items()}
    assert np.frombuffer(delta["rows"].data, "<f4").any()
    assert np.frombuffer(delta["dense"].data, "<f4").any()
    assert [(tier.r, tier.n_examples, tier.n_tokens) for tier in sums_at([1, 8], evaluated)] == [
        (1, 24, 24),
        (8, 24, 24),
    ]
    assert worker.beats[0].activity in ("starting", "importing torch")


def test_a_fresh_process_gives_the_same_bytes_as_one_that_has_run_other_tasks(
    tiny: Path, tmp_path: Path, socket_folder: Path, loaded_worker: tuple[Controller, Payload]
):
    worker, adapter = loaded_worker
    received = prefix(adapter, 4)
    worker.run(fit_task("other", adapter, 8, replace(FIT, objective="sum")), Fitted, adapter)
    evaluate = Evaluate("evaluate first", 1, 1, "global", None, [4, 8], 2.0, 0, 24, 8, 0, describe_payload(adapter))
    worker.run(evaluate, Evaluated, adapter)
    _, later = worker.run(fit_task("later", received, 4), Fitted, received)
    with real_worker(socket_folder, PYTHONHASHSEED="7") as fresh:
        assert come_up(fresh, tiny, tmp_path, "causal-lm") == adapter
        _, first = fresh.run(fit_task("first", received, 4), Fitted, received)
    assert first["rows"].data == later["rows"].data


def test_a_cancelled_fit_ends_at_its_next_step_and_the_next_task_is_served(loaded_worker: tuple[Controller, Payload]):
    worker, adapter = loaded_worker
    worker.send(*parts_of(fit_task("endless", adapter, 8, replace(FIT, local_steps=1_000_000)), adapter))
    # Under load a heartbeat of an earlier task may still arrive.
    while not (isinstance(busy := worker.receive_any(), Beat) and busy.task_id == "endless" and busy.step > 0):
        pass
    worker.send(Cancel("endless", 1))
    failure = worker.expect(Failure)
    worker.run(fit_task("after", adapter, 8), Fitted, adapter)

    assert (busy.activity, busy.task_id, busy.steps) == ("fit c01", "endless", 1_000_000)
    assert (failure.task_id, failure.error.kind) == ("endless", "cancelled")


def test_a_sum_is_sent_between_the_steps_of_the_next_fit(loaded_worker: tuple[Controller, Payload]):
    worker, adapter = loaded_worker
    _, delta = worker.run(fit_task("sent", adapter, 8), Fitted, adapter)
    basis = Basis(1, "ab" * 32, 2.0**20)
    spec = PartialSumSpec(basis, 64.0, needs_norm=False)
    held = replace(fit_task("held", adapter, 8), partial_sum=spec)
    fitted, nothing = worker.run(held, Fitted, adapter)
    worker.send(*parts_of(fit_task("endless", adapter, 8, replace(FIT, local_steps=1_000_000)), adapter))
    worker.send(Grant("held", 1, 3.0))
    collected, total = worker.run(Collect("collect", 1, basis, "F64"), Collected)
    worker.send(Cancel("endless", 1))
    failure = worker.expect(Failure)

    assert (fitted.tensors, nothing, fitted.norm) == ([], {}, None)
    assert collected.members == [Member("held", 1)]
    assert total.keys() == delta.keys()
    for name, part in total.items():
        sent = np.frombuffer(delta[name].data, "<f4").astype(np.float64)
        assert part.shape == delta[name].shape
        np.testing.assert_array_equal(np.frombuffer(part.data, "<f8"), np.rint(sent * (3.0 * 2.0**20)))
    assert (failure.task_id, failure.error.kind) == ("endless", "cancelled")


def test_the_texts_of_an_answer_come_before_it_and_the_next_task_is_served(
    loaded_worker: tuple[Controller, Payload], tiny: Path
):
    worker, adapter = loaded_worker
    data = data_spec(tiny, "causal-lm")
    asked = [Asked(r, [Turn("user", "fur")]) for r in (1, 8)]
    task = Generate("ask", 1, asked, 2.0, SEED, data, {}, True, 12, 0.0, 1.0, describe_payload(adapter))
    worker.send(*parts_of(task, adapter))
    pieces: dict[int, str] = {1: "", 8: ""}
    while isinstance(text := worker.receive(), Text):
        assert (text.task_id, text.attempt) == ("ask", 1)
        pieces[text.r] += text.text
    assert isinstance(text, Generated) and text.form == "raw"
    assert {answer.r: answer.text for answer in text.answers} == pieces
    assert any(pieces.values())
    long = replace(task, task_id="long", asked=[Asked(1, [Turn("user", "fur " * 80)])], max_new_tokens=1)
    worker.send(*parts_of(replace(long, tensors=describe_payload(prefix(adapter, 1))), prefix(adapter, 1)))
    failure = worker.expect(Failure)
    assert (failure.task_id, failure.error.kind) == ("long", "input")
    worker.run(fit_task("after", adapter, 8), Fitted, adapter)


def test_the_next_task_arrives_during_the_one_before_it_and_answers_keep_their_order(
    loaded_worker: tuple[Controller, Payload],
):
    worker, adapter = loaded_worker
    worker.send(*parts_of(fit_task("endless", adapter, 8, replace(FIT, local_steps=1_000_000)), adapter))
    while not (isinstance(busy := worker.receive_any(), Beat) and busy.step > 0):
        pass
    worker.send(*parts_of(fit_task("waiting", adapter, 8), adapter), *parts_of(fit_task("next", adapter, 8), adapter))
    # Its chunks are taken, and paid back, while the other trains.
    for _ in ("waiting", "next"):
        while not isinstance(worker.receive_any(), Credit):
            pass
    worker.send(Cancel("waiting", 1), Cancel("endless", 1))
    failures = [worker.expect(Failure) for _ in range(2)]
    fitted = worker.expect(Fitted)
    while not isinstance(worker.receive(), End):
        pass

    assert [(failure.task_id, failure.error.kind) for failure in failures] == [
        ("endless", "cancelled"),
        ("waiting", "cancelled"),
    ]
    assert fitted.task_id == "next"


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"r": 3}, r"\brank 3\b.*\b1, 2, 4, 8$"),
        ({"scale": 4.0}, r"\bscale\b.*\b2\.0\b.*\b4\.0$"),
        ({"client_id": "c99"}, r"'c99'.*\b4\b"),
        ({"r": 4}, r"\brows\b.*\[4, 1024\].*\[8, 1024\]$"),
    ],
)
def test_an_impossible_task_is_answered_with_a_failure_that_says_why(
    loaded_worker: tuple[Controller, Payload], change, facts
):
    worker, adapter = loaded_worker
    task = replace(fit_task(f"wrong {change}", adapter, 8), **change)
    failure, _ = worker.run(task, Failure, adapter)
    assert failure.error.kind == "failed" and re.search(f"^ValueError: .*{facts}", failure.error.message)
    assert failure.error.traceback.startswith("Traceback") and failure.error.message in failure.error.traceback


def test_a_missing_device_is_reported_instead_of_hello(socket_folder: Path):
    with real_worker(socket_folder, device="cuda:99") as worker:
        assert worker.expect(Unavailable).message.startswith("cuda:99: torch sees ")
        worker.send(Stop())
        assert worker.process.wait() == 0


def parts_of(task: Fit | Generate, payload: Payload) -> list[Fit | Generate | Chunk | End]:
    return [task, *chunk_payload(task.task_id, task.attempt, payload), End(task.task_id, task.attempt)]


def with_changes(**changes: object) -> bytes:
    return msgpack.packb({"type": "stop", "protocol_version": 15, **changes}) or b""


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"\xc1garbled"], "frame: expected one msgpack map"),
        ([with_changes(protocol_version=1)], f"stop.protocol_version: expected {PROTOCOL_VERSION}, got int 1"),
        ([with_changes(type="explode")], "message.type: expected one of prepare, load"),
        ([with_changes(now=True)], "stop: unknown now"),
        (pack(Beat("idle", None, 0, 0)), "message: beat "),
        ([with_changes(), b"data"], "message: expected one frame, got 2"),
        ([bytes(17 * 1024 * 1024 + 1)], "frame: expected at most 5242880 bytes"),
    ],
)
def test_a_frame_that_breaks_the_contract_ends_the_process_with_the_reason(
    socket_folder: Path, frames: list[bytes | memoryview], reason: str
):
    with real_worker(socket_folder) as worker:
        worker.receive_any()
        worker.send_frames(frames)
        assert worker.process.stderr is not None
        log = worker.process.stderr.read()
        assert worker.process.wait(600) == EXIT_WIRE
    assert f"prelort-worker w0: WireError: {reason}" in log


def test_ctrl_c_is_left_to_the_controller(loaded_worker: tuple[Controller, Payload]):
    worker, adapter = loaded_worker
    worker.process.send_signal(signal.SIGINT)
    worker.run(fit_task("after Ctrl-C", adapter, 8), Fitted, adapter)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of stdin ends a worker")
def test_it_dies_with_its_parent(socket_folder: Path):
    endpoint = f"ipc://{socket_folder}/socket"
    command = worker_command(endpoint, "w0", 4711)
    parent = f"import os, subprocess; command = {command!r}; command[command.index('4711')] = str(os.getpid())\n"
    parent += "subprocess.run(command)"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind(endpoint)
        with subprocess.Popen(
            [sys.executable, "-c", parent], env=worker_environment(), stdout=subprocess.PIPE
        ) as process:
            assert router.poll(600_000)
            assert isinstance(unpack(router.recv_multipart()[1]), Beat)
            process.kill()
            # The worker holds the other end of this pipe: it closes when both are gone.
            process.communicate(timeout=600)


def test_it_does_not_start_without_its_parent(socket_folder: Path):
    if sys.platform != "linux":
        pytest.skip("only Linux tells the parent's death by itself")
    command = worker_command(f"ipc://{socket_folder}/socket", "w0", os.getppid())
    ended = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1
    assert f"controller (pid {os.getppid()})" in ended.stderr


def test_only_prelort_worker_is_imported_from_the_folder_with_its_programs(tmp_path: Path):
    (tmp_path / "program.py").write_text("def main():\n    import run, describe\n    print(run.NAME, describe.NAME)\n")
    for name in ("run", "describe"):
        (tmp_path / f"{name}.py").write_text(f"NAME = 'own {name}'\n")
    environment = {**worker_environment(), "PYTHONPATH": os.pathsep.join([str(WORKERS), str(tmp_path)])}
    command = [sys.executable, str(WORKERS / "run.py"), "program"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "own run own describe\n"
