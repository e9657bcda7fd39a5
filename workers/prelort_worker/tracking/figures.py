"""What trackers are given of a run, under names that are the same for all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runs import read_objects
from .tracker import Ending, Param, Sample

_TIER_METRICS = ("loss", "accuracy", "macro_f1", "perplexity", "rouge_l", "bits_per_byte", "ece")
# The characters that every tracker takes in names.
_OTHER_CHARACTERS = re.compile(r"[^\w .:/-]", re.ASCII)


def metrics_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a line of metrics.jsonl that are numbers; those of single clients are left out."""
    found: dict[str, float | None] = {}
    tiers = [(f"tier/{tier['r']}", tier) for tier in line.get("by_tier", [])]
    merged = line.get("merged")
    for name, tier in [*tiers, *([("merged", merged)] if merged else [])]:
        found.update({f"{name}/{key}": tier.get(key) for key in _TIER_METRICS})
        found.update({f"{name}/own/{own['name']}": own["value"] for own in tier.get("own", [])})
    found.update({f"segment/{part['r']}/energy": part["energy"] for part in line.get("energy", [])})
    for part in line.get("coverage", []):
        found[f"segment/{part['r']}/contributors"] = part["clients"]
        found[f"segment/{part['r']}/examples"] = part["examples"]
    found["fit/loss"] = line.get("fit_loss")
    found["fit/grad_norm"] = line.get("grad_norm")
    found["fit/steps"] = line.get("steps")
    found["fit/passes"] = line.get("passes")
    found.update({f"clients/{key}": len(line.get(key, [])) for key in ("reported", "failed", "late")})
    found["bytes/down"] = line.get("bytes_down")
    found["bytes/up"] = line.get("bytes_up")
    return {_plain(name): float(value) for name, value in found.items() if value is not None}


def samples_of(line: Mapping[str, Any]) -> list[Sample]:
    """The examples of a line of metrics.jsonl whose answers are recorded."""
    return [
        Sample(
            _encodable(sample["prompt"]),
            _encodable(sample["reference"]),
            {answer["r"]: _encodable(answer["text"]) for answer in sample["answers"]},
        )
        for sample in line.get("samples", [])
    ]


def columns_of(samples: Sequence[Sample]) -> list[str]:
    """Of a table of samples."""
    return ["prompt", "reference", *(f"rank {r}" for r in samples[0].answers)]


def rows_of(samples: Sequence[Sample]) -> list[list[str]]:
    return [[sample.prompt, sample.reference, *sample.answers.values()] for sample in samples]


def ending_of(told: Mapping[str, Any]) -> Ending:
    """What the controller says when the run ends; it judges which round is the best."""
    best, stopped = told.get("best"), told.get("stopped")
    figures = (
        {"best/round": float(best["round"]), _plain(f"best/{best['metric']}"): float(best["value"])} if best else {}
    )
    return Ending(told["state"], figures, {"prelort.stopped": stopped["reason"]} if stopped else {})


def params_of(record: Mapping[str, Any]) -> dict[str, Param]:
    """
    The config by dotted keys, the method, versions and device of a run.json. How the run is carried out (`workers`,
    `track`) is left out: it does not change the result, and it names machines.
    """
    config = {key: value for key, value in record["config"].items() if key not in ("workers", "track")}
    found = dict(_flat(config, ""))
    found["workers.threads"] = record["config"].get("workers", {}).get("threads", 1)
    found["method"] = record["method"]["name"]
    found["versions.prelort"] = record["prelort"]
    found.update({f"versions.{name}": version for name, version in record.get("versions", {}).items()})
    found["device"] = record.get("device", {}).get("name", "")
    return {_plain(name): value for name, value in found.items()}


def _flat(value: Any, key: str) -> Iterator[tuple[str, Param]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    elif isinstance(value, str | int | float):
        yield key, value
    elif value is not None:
        yield key, json.dumps(value, ensure_ascii=False)


def last_adapter(directory: Path) -> str | None:
    """SHA-256 of the last adapter that the run committed."""
    sha256 = None
    for entry in read_objects(directory / "journal.jsonl"):
        if entry.get("type") == "commit":
            sha256 = entry.get("sha256")
    return sha256 if isinstance(sha256, str) else None


def _encodable(text: str) -> str:
    """JSON may have halves of surrogate pairs, which no tracker takes."""
    return text.encode(errors="replace").decode()


def _plain(name: str) -> str:
    return _OTHER_CHARACTERS.sub("_", name)
