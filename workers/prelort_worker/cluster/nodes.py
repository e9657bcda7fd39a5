"""Asks Ray what its cluster has. Only this file uses what Ray does not declare public, as nothing public tells it."""

from contextlib import suppress

import ray  # pyright: ignore[reportMissingImports]

from .capacity import Autoscaler, Node, read_autoscaler_report


def live_nodes() -> list[Node]:
    free = _free_by_node()
    return [
        Node(node["NodeID"], node["Resources"], free.get(node["NodeID"], {})) for node in ray.nodes() if node["Alive"]
    ]


def _free_by_node() -> dict[str, dict[str, float]]:
    from ray._private.state import available_resources_per_node  # pyright: ignore[reportMissingImports]

    return available_resources_per_node()


def autoscaler() -> Autoscaler | None:
    """None where there is none, or where this version of Ray tells it in another way."""
    with suppress(Exception):
        from ray.autoscaler.v2.utils import is_autoscaler_v2  # pyright: ignore[reportMissingImports]

        return _second_autoscaler() if is_autoscaler_v2() else _first_autoscaler()
    return None


def _first_autoscaler() -> Autoscaler | None:
    from ray.experimental.internal_kv import _internal_kv_get  # pyright: ignore[reportMissingImports]

    return read_autoscaler_report(_internal_kv_get("__autoscaling_status"))


def _second_autoscaler() -> Autoscaler:
    from ray.autoscaler.v2.sdk import get_cluster_status  # pyright: ignore[reportMissingImports]

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    return Autoscaler(len(status.pending_nodes) + sum(launch.count for launch in status.pending_launches))
