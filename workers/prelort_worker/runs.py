"""
Reads a run directory in Python, for notebooks and scripts:

    from prelort_worker.runs import read_run

    run = read_run("runs/quickstart")
    run.tiers().pivot(index="round", columns="r", values="accuracy")

The run may be finished, interrupted or under way: it is only read. Imports neither torch nor, before a table is asked
for, pandas.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import InputError

if TYPE_CHECKING:
    import pandas as pd

JsonObject = dict[str, Any]

TIER_COLUMNS = (
    "round",
    "r",
    "loss",
    "accuracy",
    "macro_f1",
    "perplexity",
    "rouge_l",
    "bits_per_byte",
    "ece",
    "examples",
)
SEGMENT_COLUMNS = ("round", "r", "energy", "clients", "examples")
TIMING_COLUMNS = ("round", "phase", "seconds")
EVENT_COLUMNS = ("version", "number", "at", "type")


@dataclass(frozen=True)
class Run:
    """A run directory as it was when it was read. Keys are those of its files, in snake_case."""

    directory: Path
    name: str
    # With every default, spelled as in YAML.
    config: JsonObject = field(repr=False)
    # Its name and a sentence on it.
    method: dict[str, str]
    # All of run.json.
    record: JsonObject = field(repr=False)
    # The lines of metrics.jsonl in the order of rounds; round 0 is before training.
    metrics: list[JsonObject] = field(repr=False)
    # Folders that PEFT loads, by rank; of a finished run.
    adapters: dict[int, Path]

    def tiers(self) -> pd.DataFrame:
        """
        Quality by round and rank r: loss (mean per answer token or example), accuracy, macro_f1, perplexity, rouge_l,
        bits_per_byte, ece, examples (their number), a column own/NAME for each metric of the task's own, and
        NAME/low and NAME/high for the 95 % interval of each figure that has one. NaN where there is no value.
        """
        rows = [
            {
                "round": metrics["round"],
                **{key: _number(value) for key, value in tier.items() if key not in ("own", "intervals")},
                **{f"own/{own['name']}": _number(own["value"]) for own in tier.get("own", [])},
                **{f"{each['name']}/{end}": each[end] for each in tier.get("intervals", []) for end in ("low", "high")},
            }
            for metrics in self.metrics
            for tier in metrics.get("by_tier", [])
        ]
        return _table(rows, TIER_COLUMNS)

    def segments(self) -> pd.DataFrame:
        """
        By round and segment, which is named by its tier r: energy ‖s·B·A‖² of the global adapter, the number of clients
        that trained it, and their examples. Energy is NaN in rounds that were not evaluated, the others in round 0.
        """
        rows: list[JsonObject] = []
        for metrics in self.metrics:
            parts: dict[int, JsonObject] = {}
            for part in [*metrics.get("energy", []), *metrics.get("coverage", [])]:
                parts.setdefault(part["r"], {"round": metrics["round"]}).update(part)
            rows += [parts[r] for r in sorted(parts)]
        return _table(rows, SEGMENT_COLUMNS)

    def timings(self) -> pd.DataFrame:
        """Seconds by round and phase, in order. A round that was trained again after a resume is there twice."""
        return _table(read_objects(self.directory / "timings.jsonl"), TIMING_COLUMNS)

    def events(self) -> pd.DataFrame:
        """
        What `prelort run --json` printed, an event a row: number, type, at (milliseconds since 1970) and the fields of
        its type. Empty for runs of versions that recorded no events.
        """
        return _table(read_objects(self.directory / "events.jsonl"), EVENT_COLUMNS)


def read_run(directory: str | Path) -> Run:
    """Raises InputError, with file and line, if the directory holds no run or a file of it is damaged."""
    root = Path(directory).resolve()
    record = read_record(root)
    for key, kind in (("name", str), ("config", dict), ("method", dict)):
        if not isinstance(record.get(key), kind):
            raise InputError(f"{root / 'run.json'}: {key} is missing or damaged; restore the file from a copy")
    metrics = by_round(root / "metrics.jsonl")
    folders = (root / "adapters").glob("r*/adapter_model.safetensors")
    ranks = {int(file.parent.name[1:]): file.parent for file in folders if file.parent.name[1:].isdecimal()}
    return Run(
        directory=root,
        name=record["name"],
        config=record["config"],
        method=record["method"],
        record=record,
        metrics=[metrics[number] for number in sorted(metrics)],
        adapters=dict(sorted(ranks.items())),
    )


def read_record(directory: Path) -> JsonObject:
    """run.json, which is shorter before the run's data and model are ready."""
    file = directory / "run.json"
    try:
        with open_file(file) as opened:
            text = opened.read()
    except (FileNotFoundError, NotADirectoryError):
        found = (
            f"{directory} holds no run: there is no run.json in it"
            if directory.is_dir()
            else f"there is no folder {directory}"
        )
        message = f"{found}; give a run's folder, such as runs/quickstart"
        raise InputError(message) from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    return parse_object(text, str(file), "restore it from a copy")


def by_round(file: Path) -> dict[int, JsonObject]:
    """The lines of a metrics file by the round that they name, whatever their order; the first of each counts."""
    found: dict[int, JsonObject] = {}
    for number, line in enumerate(read_objects(file), 1):
        check_round(line, f"{file}:{number}")
        found.setdefault(line["round"], line)
    return found


def check_round(line: Mapping[str, Any], where: str) -> None:
    """Refuses a line of a metrics file that names no round, or of whose parts one names no rank."""
    remedy = "prelort resume evaluates its round again"
    if type(line.get("round")) is not int:
        raise InputError(f"{where} is damaged: it names no round; {remedy}")
    for key in ("by_tier", "energy", "coverage"):
        parts = line.get(key, [])
        if not isinstance(parts, list) or not all(map(_has_rank, parts)):
            raise InputError(f"{where} is damaged: {key} is not a list of figures by rank r; {remedy}")
    samples = line.get("samples", [])
    if not isinstance(samples, list) or not all(map(_is_sample, samples)):
        raise InputError(f"{where} is damaged: samples is not a list of prompts with answers by rank r; {remedy}")


def _has_rank(part: Any) -> bool:
    return isinstance(part, dict) and type(part.get("r")) is int


def _is_sample(sample: Any) -> bool:
    if not isinstance(sample, dict) or not isinstance(answers := sample.get("answers"), list):
        return False
    texts = [
        sample.get("prompt"),
        sample.get("reference"),
        *(_has_rank(answer) and answer.get("text") for answer in answers),
    ]
    return all(isinstance(text, str) for text in texts)


def read_objects(file: Path) -> Iterator[JsonObject]:
    """JSON objects, one a line. An absent file has none; a last line without its end is still being written."""
    try:
        with open_file(file) as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield parse_object(line, f"{file}:{number}", "remove the line to read the others")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def open_file(file: Path) -> BinaryIO:
    """
    A file of a run's folder, to read. Raises InputError for what is no file: the folder may come from somebody else, a
    pipe in it would be waited for without end, and a link could lead to a device or to a file that is none of its own.
    """
    remedy = "restore it from a copy"
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{file} is a link, which may lead anywhere; replace it with the file itself") from error
        if error.errno == errno.ENXIO:
            raise InputError(f"{file} is a socket, not a file; {remedy}") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{file} is a folder, a pipe or a device, not a file; {remedy}")
    return os.fdopen(descriptor, "rb")


def parse_object(text: bytes, where: str, remedy: str) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is damaged: {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} is damaged: it is not a JSON object; {remedy}")
    return value


def _number(value: Any) -> Any:
    """Without it, pandas would take a column that has no value for one of objects."""
    return float("nan") if value is None else value


def _table(rows: Iterator[JsonObject] | list[JsonObject], columns: tuple[str, ...]) -> pd.DataFrame:
    """These columns first, which are there even without a row."""
    import pandas as pd

    listed = list(rows)
    others = {key for row in listed for key in row} - set(columns)
    found = [key for key in dict.fromkeys(key for row in listed for key in row) if key in others]
    return pd.DataFrame(listed, columns=pd.Index([*columns, *found]))
