"""The parts of the cluster's driver that need no Ray: its options, and what launches wait for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prelort_worker.cluster.capacity import (
    Autoscaler,
    Node,
    may_fit,
    nodes_to_avoid,
    read_autoscaler_report,
    waiting_reason,
)
from prelort_worker.cluster.driver import needed_resources, parse_options

WORKERS = Path(__file__).parents[2] / "workers"
REQUIRED = ["--endpoint", "tcp://10.0.0.5:7000", "--worker-id", "launcher-0"]


def node(name: str, free: dict[str, float], **total: float) -> Node:
    return Node(name, total, {**total, **free})


def test_a_key_that_looks_like_an_option_is_read():
    options = parse_options([*REQUIRED, "--server-key=-a!b'c", "--lease", "7.5"])
    assert (options.server_key, options.lease, options.python, options.address) == ("-a!b'c", 7.5, "", None)


@pytest.mark.parametrize("text", ["[]", '{"CPU": 1}', "4", '{"num_cpus": 1', '{"resources": 4}', '{"num_gpus": "1"}'])
def test_resources_are_an_object_of_known_keys(text: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse_options([*REQUIRED, "--server-key=k", "--resources", text])
    assert "--resources" in capsys.readouterr().err


def test_resources_are_named_as_on_the_nodes_and_nothing_is_not_needed():
    assert needed_resources({"num_cpus": 4, "num_gpus": 0, "resources": {"spot": 1}}) == {"CPU": 4, "spot": 1}


def test_a_node_may_fit_by_what_it_has_not_by_what_is_free():
    assert may_fit(node("a", {"CPU": 0}, CPU=4), {"CPU": 4})
    assert not may_fit(node("a", {}, CPU=4), {"CPU": 4, "GPU": 1})


def test_nodes_are_avoided_only_while_another_has_what_is_needed():
    nodes = [node("a", {}, CPU=4), node("b", {"CPU": 0}, CPU=4), node("c", {}, CPU=1)]
    assert nodes_to_avoid(nodes, {"CPU": 4}, ["a", "gone"]) == ["a", "gone"]
    assert nodes_to_avoid(nodes, {"CPU": 4}, ["a", "b"]) == []
    assert nodes_to_avoid([], {"CPU": 4}, ["a"]) == []


GPU_NODES = [node("a", {"GPU": 0, "CPU": 2}, GPU=2, CPU=8), node("b", {"GPU": 0}, GPU=2, CPU=8)]


@pytest.mark.parametrize(
    ("nodes", "needed", "avoid", "reason"),
    [
        (GPU_NODES, {"GPU": 1}, [], "Ray has 0 of 4 GPU free"),
        (GPU_NODES, {"GPU": 1, "CPU": 1}, [], "Ray has 0 of 4 GPU free"),
        ([node("a", {"CPU": 0.5}, CPU=4)], {"CPU": 1}, [], "Ray has 0.5 of 4 CPU free"),
        (
            [node("a", {}, CPU=4), node("b", {}, CPU=2)],
            {"CPU": 8},
            [],
            "no node of the cluster has 8 CPU (the largest has 4)",
        ),
        (
            [node("a", {}, CPU=4)],
            {"CPU": 8, "GPU": 1},
            [],
            "no node of the cluster has 8 CPU (the largest has 4) or 1 GPU (the largest has 0)",
        ),
        (
            [node("a", {}, CPU=8), node("b", {}, GPU=1)],
            {"CPU": 8, "GPU": 1},
            [],
            "no node of the cluster has 8 CPU and 1 GPU at once",
        ),
        (
            [node("a", {"CPU": 1}, CPU=2), node("b", {"CPU": 1}, CPU=2)],
            {"CPU": 2},
            [],
            "Ray has 2 of 4 CPU free, but no node has 2 CPU free",
        ),
        ([node("a", {}, CPU=2)], {"CPU": 2}, [], "Ray is starting a process"),
        (
            [node("a", {}, CPU=2), node("b", {"CPU": 0}, CPU=2)],
            {"CPU": 2},
            ["a"],
            "Ray has 0 of 2 CPU free on other nodes than the 1 to avoid",
        ),
        ([], {"CPU": 2}, [], "the cluster has no node"),
    ],
)
def test_what_a_launch_waits_for_is_told_with_numbers(
    nodes: list[Node], needed: dict[str, float], avoid: list[str], reason: str
):
    assert waiting_reason(nodes, needed, avoid, None) == reason
    assert waiting_reason(nodes, needed, avoid, Autoscaler(0)) == reason
    assert waiting_reason(nodes, needed, avoid, Autoscaler(1)) == f"{reason}; autoscaler: 1 node pending"
    assert waiting_reason(nodes, needed, avoid, Autoscaler(2)) == f"{reason}; autoscaler: 2 nodes pending"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        (b'{"monitor_pid": 36}', None),
        (
            b'{"autoscaler_report": {"pending_nodes": [["10.0.0.7", "gpu", "setting-up"]], '
            b'"pending_launches": {"gpu": 2, "cpu": 1}, "failed_nodes": []}}',
            Autoscaler(4),
        ),
    ],
)
def test_the_report_of_an_autoscaler_tells_the_nodes_that_are_pending(text: bytes | None, expected: Autoscaler | None):
    assert read_autoscaler_report(text) == expected


def test_a_python_that_lacks_what_the_driver_needs_is_named_with_the_packages():
    script = (
        "import importlib.util as util; found = util.find_spec; "
        "util.find_spec = lambda name: None if name in ('zmq', 'ray') else found(name); "
        "from prelort_worker.cluster.driver import main; main()"
    )
    options = ["--endpoint=tcp://127.0.0.1:1", "--worker-id=launcher-0", "--server-key=k"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", script, *options], env=environment, capture_output=True, text=True)
    assert told.returncode == 1
    for part in (sys.executable, "ray, pyzmq:", "PATH", "workers.cluster.runtime_env"):
        assert part in told.stderr
    assert "Traceback" not in told.stderr


def test_the_driver_and_its_connection_need_neither_numpy_nor_torch():
    script = (
        "import sys; from prelort_worker.cluster import channel, driver; "
        "print(sorted({'numpy', 'torch', 'ray'} & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=WORKERS, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
