"""
TensorBoard: event files in a folder. A round is one record of one file, so that it is there whole or not at all; a
process that starts again writes a file of its own. Values are float32, as TensorBoard has them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import (  # pyright: ignore[reportMissingImports]
    LegacyEventFileLoader,
)
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportMissingImports]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportMissingImports]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportMissingImports]
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # pyright: ignore[reportMissingImports]
from tensorboard.compat.proto.types_pb2 import DT_STRING  # pyright: ignore[reportMissingImports]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # pyright: ignore[reportMissingImports]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # pyright: ignore[reportMissingImports]

from ..runs import open_file, parse_object
from .own_files import own_folder, write_file
from .tracker import Ending, RefusedError, Sample, TrackedRun

# In the folder, says whose run it holds.
_MARK = "prelort.json"
# Begins the names of figures that no round has of its own.
_BEST = "best/"


class TensorboardTracker:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def check(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise RefusedError(f"{self._folder} is not a folder")

    def open(self, run: TrackedRun) -> str:
        # A folder that the user chose may be a link; one in a run's folder, which may come from somebody else, may not.
        if self._folder.parent == run.directory:
            own_folder(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / _MARK
        try:
            with open_file(mark) as opened:
                found = parse_object(opened.read(), str(mark), "remove the folder")
        except FileNotFoundError:
            write_file(mark, json.dumps({"run": run.key}) + "\n")
        else:
            if found.get("run") != run.key:
                raise RefusedError(f"{self._folder} holds another run: remove it, or set track's folder to another one")
        has_params = any(value.tag == metadata.SESSION_START_INFO_TAG for _, value in self._values())
        self._writer = EventFileWriter(str(self._folder))
        if not has_params:
            text = "\n".join(f"- {name}: {value}" for name, value in run.tags.items())
            self._add(0, time.time(), [_session_start(run), _text("prelort/tags", text)])
        return str(self._folder)

    def last_round(self) -> int:
        return max((step for step, name in self._scalars() if not name.startswith(_BEST)), default=-1)

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        texts = [_text(f"samples/{place}", _verbatim(sample)) for place, sample in enumerate(samples, 1)]
        self._add(number, at, [*scalars, *texts])

    def close(self, ending: Ending) -> None:
        state = ending.state
        if state != "running":
            texts = {"prelort/state": state, **{name.replace(".", "/"): value for name, value in ending.tags.items()}}
            self._add(max(self.last_round(), 0), time.time(), [_text(name, value) for name, value in texts.items()])
            self._add_best(ending.best)
        # Its plugin shows the first end of a session, so one that may be resumed has none.
        if state == "finished":
            end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
            data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
            self._add(0, time.time(), [_hparams(metadata.SESSION_END_INFO_TAG, data)])
        self._writer.close()

    def _add(self, step: int, at: float, values: list[Any]) -> None:
        self._writer.add_event(Event(wall_time=at, step=step, summary=Summary(value=values)))
        self._writer.flush()

    def _add_best(self, best: Mapping[str, float]) -> None:
        """Once, at its own step."""
        if not best:
            return
        step = int(best[f"{_BEST}round"])
        if (step, f"{_BEST}round") not in self._scalars():
            self._add(step, time.time(), [Summary.Value(tag=name, simple_value=value) for name, value in best.items()])

    def _scalars(self) -> set[tuple[int, str]]:
        """The steps and names of all values that are numbers."""
        return {(step, value.tag) for step, value in self._values() if value.HasField("simple_value")}

    def _values(self) -> Iterator[tuple[int, Any]]:
        """Everything that the folder's files hold, with its step. A record that was cut off ends its file."""
        for file in sorted(self._folder.glob("events.out.tfevents.*")):
            # TensorBoard's own reader would wait for a pipe without end.
            open_file(file).close()
            for event in LegacyEventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    yield event.step, value


def _session_start(run: TrackedRun) -> Any:
    start = plugin_data_pb2.SessionStartInfo(group_name=run.name, start_time_secs=time.time())
    for name, value in run.params.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    return _hparams(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))


def _hparams(tag: str, data: Any) -> Any:
    data.version = metadata.PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR)


def _text(tag: str, text: str) -> Any:
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=TensorShapeProto())
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)


def _verbatim(sample: Sample) -> str:
    """Indented, which Markdown shows as it is: its text may hold markup, such as an image of another server."""
    parts = {"prompt": sample.prompt, "reference": sample.reference}
    parts |= {f"rank {r}": text for r, text in sample.answers.items()}
    return "\n\n".join(f"**{name}**\n\n{indent(text or ' ', '    ', lambda _: True)}" for name, text in parts.items())


def open_tracker(options: Mapping[str, Any], directory: Path) -> TensorboardTracker:
    folder = options.get("folder")
    return TensorboardTracker(directory / "tensorboard" if folder is None else Path(folder).absolute())
