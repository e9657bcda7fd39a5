"""MLflow: a run of an experiment, at a tracking server or in a local store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# A server that is down is known to be so soon: we ask again ourselves. Before the client is imported, which reads them.
for _name, _value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "6")):
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402  # pyright: ignore[reportMissingImports]
from mlflow import MlflowClient  # noqa: E402  # pyright: ignore[reportMissingImports]
from mlflow.entities import Metric, Param, RunTag  # noqa: E402  # pyright: ignore[reportMissingImports]
from mlflow.exceptions import MlflowException  # noqa: E402  # pyright: ignore[reportMissingImports]

from .figures import columns_of, rows_of  # noqa: E402
from .new_store import SQLITE, make_whole  # noqa: E402
from .own_files import write_file  # noqa: E402
from .tracker import Ending, RefusedError, Sample, TrackedRun  # noqa: E402

# In every round, and sent last: a round that has it is there whole.
_LAST = "prelort/round"
# What MLflow takes in a request, and of a param.
_METRICS, _PARAMS, _PARAM_LENGTH = 999, 100, 6000
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class MlflowTracker:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._uri = options.get("tracking_uri") or mlflow.get_tracking_uri()
        self._client: Any = None
        self._experiment = options.get("experiment") or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "prelort"
        self._run_name = options.get("run_name")
        self._id = ""
        self._directory = Path()
        # A round that was begun may be there in part.
        self._is_certain = False

    def check(self) -> None:
        # A local store is made when it is first needed, which takes longer than a run should wait.
        if not self._uri.startswith(("http://", "https://")):
            return
        try:
            MlflowClient(tracking_uri=self._uri).search_experiments(max_results=1)
        except MlflowException as error:
            if error.get_http_status_code() in (401, 403):
                variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
                raise RefusedError(f"the server refuses the credentials of {variables}: {error.message}") from error
            raise

    def open(self, run: TrackedRun) -> str:
        if self._uri.startswith(SQLITE):
            make_whole(Path(self._uri.removeprefix(SQLITE)))
        self._client = MlflowClient(tracking_uri=self._uri)
        found = self._find(run)
        self._is_certain = found is None
        if found is None:
            tags = {**run.tags, "mlflow.source.name": "prelort"}
            found = self._client.create_run(self._experiment_id(), tags=tags, run_name=self._run_name or run.name)
        elif found.info.status != "RUNNING":
            self._client.update_run(found.info.run_id, status="RUNNING")
        self._id, self._directory = found.info.run_id, run.directory
        # MLflow refuses another value for a param that is there.
        missing = [
            Param(name, str(value)[:_PARAM_LENGTH])
            for name, value in run.params.items()
            if name not in found.data.params
        ]
        for part in _parts(missing, _PARAMS):
            self._client.log_batch(self._id, params=part)
        return self._id

    def last_round(self) -> int:
        return max((metric.step for metric in self._client.get_metric_history(self._id, _LAST)), default=-1)

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        if samples:
            self._put(number, samples)
        held = set() if self._is_certain else {name for name in metrics if self._holds(name, number)}
        self._is_certain = False
        milliseconds = int(at * 1000)
        missing = [Metric(name, value, milliseconds, number) for name, value in metrics.items() if name not in held]
        for part in _parts(missing, _METRICS):
            is_last = part[-1] is missing[-1]
            marked = [*part, Metric(_LAST, number, milliseconds, number)] if is_last else part
            self._client.log_batch(self._id, metrics=marked)
        if not missing:
            self._client.log_metric(self._id, _LAST, number, milliseconds, number)
        self._is_certain = True

    def close(self, ending: Ending) -> None:
        tags = [RunTag(name, value) for name, value in ending.tags.items()]
        if ending.state == "running":
            self._client.log_batch(self._id, tags=tags)
            return
        now, step = int(time.time() * 1000), int(ending.best.get("best/round", 0))
        missing = [Metric(name, value, now, step) for name, value in ending.best.items() if not self._holds(name, step)]
        self._client.log_batch(self._id, metrics=missing, tags=tags)
        self._client.set_terminated(self._id, status=_STATUS[ending.state], end_time=now)

    def _put(self, number: int, samples: Sequence[Sample]) -> None:
        """A table as an artifact, in the place of what a process that was killed has put there."""
        file = self._directory / "track" / f"round-{number}.json"
        write_file(file, json.dumps({"columns": columns_of(samples), "data": rows_of(samples)}, indent=2))
        self._client.log_artifact(self._id, str(file), "samples")
        file.unlink()

    def _find(self, run: TrackedRun) -> Any:
        """
        The run that was made before: by its id or, if its maker was killed before it noted that, by our tag. An id is
        taken for nothing without the tag, which the run was made with: the folder that has it may come from somebody
        else, and must not choose a run here to be written to.
        """
        if run.remote is not None:
            try:
                found = self._client.get_run(run.remote)
                if found.info.lifecycle_stage == "active" and found.data.tags.get("prelort.id") == run.key:
                    return found
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        found = self._client.search_runs([self._experiment_id()], f"tags.`prelort.id` = '{run.key}'", max_results=1)
        return found[0] if found else None

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise RefusedError(f"the experiment {self._experiment} was deleted: restore it, or name another one")
            return found.experiment_id
        try:
            return self._client.create_experiment(self._experiment)
        except MlflowException as error:
            # Another run has made it meanwhile.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment_id()

    def _holds(self, name: str, number: int) -> bool:
        return any(metric.step == number for metric in self._client.get_metric_history(self._id, name))


def _parts(items: list[Any], most: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def open_tracker(options: Mapping[str, Any], directory: Path) -> MlflowTracker:
    return MlflowTracker(options)
