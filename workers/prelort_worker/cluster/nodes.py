"""Asks Ray what its cluster has."""

import json
from contextlib import suppress

import ray  # pyright: ignore[reportMissingImports]
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_initialized

from .capacity import Autoscaler, Node


def live_nodes() -> list[Node]:
    free = _free_by_node()
    return [
        Node(node["NodeID"], node["Resources"], free.get(node["NodeID"], {})) for node in ray.nodes() if node["Alive"]
    ]


def _free_by_node() -> dict[str, dict[str, float]]:
    """Not a part of Ray's public interface, which has it for the whole cluster alone."""
    from ray._private.state import available_resources_per_node

    return available_resources_per_node()


def autoscaler() -> Autoscaler | None:
    """None where it says nothing, or something else than it does now."""
    with suppress(Exception):
        text = _internal_kv_get("__autoscaling_status") if _internal_kv_initialized() else None
        return read_autoscaler(text) if text else None
    return None


def read_autoscaler(text: bytes) -> Autoscaler | None:
    report = json.loads(text).get("autoscaler_report")
    if report is None:
        return None
    return Autoscaler(len(report["pending_nodes"]) + sum(report["pending_launches"].values()))
