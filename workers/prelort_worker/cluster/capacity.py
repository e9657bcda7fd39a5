"""What a cluster has, and what it lacks for a worker. Knows nothing of Ray but the names of its resources."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    """A live node of the cluster."""

    id: str
    total: Resources
    free: Resources


@dataclass(frozen=True)
class Autoscaler:
    """What it is bringing up."""

    pending_nodes: int


def read_autoscaler_report(text: bytes | None) -> Autoscaler | None:
    """What Ray's first autoscaler writes down: JSON."""
    report = json.loads(text).get("autoscaler_report") if text else None
    if report is None:
        return None
    return Autoscaler(len(report["pending_nodes"]) + sum(report["pending_launches"].values()))


def may_fit(node: Node, needed: Resources) -> bool:
    """Whether the node has as much, be it free or not."""
    return _amounts_cover(node.total, needed)


def nodes_to_avoid(nodes: Iterable[Node], needed: Resources, avoid: Iterable[str]) -> list[str]:
    """`avoid`, or nothing if no other node has what is needed."""
    asked = set(avoid)
    return sorted(asked) if any(node.id not in asked and may_fit(node, needed) for node in nodes) else []


def waiting_reason(
    nodes: Sequence[Node], needed: Resources, avoid: Sequence[str], autoscaler: Autoscaler | None
) -> str:
    """Why a worker that needs this is not placed yet, in words."""
    reason = _lack(nodes, needed, avoid)
    if autoscaler and autoscaler.pending_nodes:
        reason += f"; autoscaler: {_count(autoscaler.pending_nodes, 'node')} pending"
    return reason


def _lack(nodes: Sequence[Node], needed: Resources, avoid: Sequence[str]) -> str:
    if not nodes:
        return "the cluster has no node"
    if not any(may_fit(node, needed) for node in nodes):
        return _never_fits(nodes, needed)
    usable = [node for node in nodes if node.id not in avoid]
    if any(_amounts_cover(node.free, needed) for node in usable):
        return "Ray is starting a process"
    free = {name: sum(node.free.get(name, 0) for node in usable) for name in needed}
    total = {name: sum(node.total.get(name, 0) for node in usable) for name in needed}
    short = [name for name, amount in needed.items() if free[name] < amount]
    counts = [f"{_amount(free[name])} of {_amount(total[name])} {name}" for name in short or needed]
    scattered = "" if short else f", but no node has {_spell(needed)} free"
    elsewhere = f" on other nodes than the {len(avoid)} to avoid" if avoid else ""
    return f"Ray has {' and '.join(counts)} free{scattered}{elsewhere}"


def _never_fits(nodes: Sequence[Node], needed: Resources) -> str:
    largest = {name: max(node.total.get(name, 0) for node in nodes) for name in needed}
    short = [
        f"{_amount(amount)} {name} (the largest has {_amount(largest[name])})"
        for name, amount in needed.items()
        if largest[name] < amount
    ]
    return f"no node of the cluster has {' or '.join(short) or f'{_spell(needed)} at once'}"


def _amounts_cover(there: Resources, needed: Resources) -> bool:
    return all(there.get(name, 0) >= amount for name, amount in needed.items())


def _spell(resources: Resources) -> str:
    return " and ".join(f"{_amount(amount)} {name}" for name, amount in resources.items())


def _amount(value: float) -> str:
    return f"{round(value, 3):g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
