"""
What a tracker holds, read by its own reader, as JSON: {"runs": [ids], "values": {step: {name: [every value]}},
"samples": {step: {name: [every text or table]}}, "best": {name: [every value]}, "params", "tags", "state"}.

python read_back.py tensorboard FOLDER | mlflow URI EXPERIMENT | trackio PROJECT | wandb RUN_FOLDER
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

Values = dict[int, dict[str, list[Any]]]


def apart(values: Values) -> dict[str, Any]:
    """The samples, and the figures of the best round, apart from those of rounds."""
    found: dict[str, Any] = {"values": {}, "samples": {}, "best": {}}
    for step, named in values.items():
        for name, all_values in named.items():
            kind = next((kind for kind in ("samples", "best") if name.startswith(kind)), "values")
            place = found["best"] if kind == "best" else found[kind].setdefault(step, {})
            place.setdefault(name, []).extend(all_values)
    return found


def tensorboard(folder: str) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )
    from tensorboard.plugins.hparams import metadata  # pyright: ignore[reportMissingImports]

    read = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False)
    read.Reload()
    values: Values = defaultdict(lambda: defaultdict(list))
    for name in read.Tags()["scalars"]:
        for event in read.Scalars(name):
            values[event.step][name].append(event.value)
    start = metadata.parse_session_start_info_plugin_data(
        read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    params = {name: str(getattr(value, value.WhichOneof("kind"))) for name, value in start.hparams.items()}
    for tag in read.Tags()["tensors"]:
        for event in read.Tensors(tag) if tag.startswith("samples/") else []:
            values[event.step][tag].append(event.tensor_proto.string_val[0].decode())
    texts = {tag: read.Tensors(tag)[-1].tensor_proto.string_val for tag in read.Tags()["tensors"]}
    tags = {name: text[0].decode() for name, text in texts.items() if text}
    return {"runs": [folder], **apart(values), "params": params, "tags": tags, "state": tags.get("prelort/state")}


def mlflow(uri: str, experiment: str) -> dict[str, Any]:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    values: Values = defaultdict(lambda: defaultdict(list))
    [run, *_] = runs
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            if name != "prelort/round":
                values[metric.step][name].append(metric.value)
    for artifact in client.list_artifacts(run.info.run_id, "samples"):
        table = json.loads(Path(client.download_artifacts(run.info.run_id, artifact.path)).read_text())
        values[int(Path(artifact.path).stem.removeprefix("round-"))]["samples"].append(table)
    found = {**apart(values), "params": run.data.params, "tags": run.data.tags, "state": run.info.status}
    return {"runs": [each.info.run_id for each in runs], **found}


def trackio(project: str) -> dict[str, Any]:
    from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

    runs = SQLiteStorage.get_run_records(project)
    values: Values = defaultdict(lambda: defaultdict(list))
    run_id = str(runs[0]["id"])
    for row in SQLiteStorage.get_logs(project, str(runs[0]["name"]), run_id=run_id):
        for name, value in row.items():
            if name not in ("step", "timestamp"):
                values[row["step"]][name].append(value)
    config = SQLiteStorage.get_run_config(project, str(runs[0]["name"]), run_id=run_id) or {}
    params = {name: str(value) for name, value in config.items()}
    best = {name: [value] for name, value in config.items() if name.startswith("best/")}
    ids = [str(run["id"]) for run in runs]
    found = {**apart(values), "best": best}
    return {"runs": ids, **found, "params": params, "tags": params, "state": config.get("prelort.state")}


def wandb(directory: str) -> dict[str, Any]:
    """Everything in all offline folders of a run, so that a value in two of them shows."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "workers"))
    from prelort_worker.tracking.leveldb_log import read_records
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    values: Values = defaultdict(lambda: defaultdict(list))
    found: dict[str, Any] = {"runs": [], "best": {}, "params": {}, "tags": {}, "state": None}
    for file in sorted(Path(directory).glob("wandb/offline-run-*/run-*.wandb")):
        with file.open("rb") as log:
            records = [(Record.FromString(data), end) for data, end in read_records(log)]
            # As a process leaves it that is under way or was killed. W&B stops there when it sends the files.
            if not records or records[-1][1] < file.stat().st_size:
                found["tags"]["cut off"] = file.name
            for record, _ in records:
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                for name in items.keys() - {"_step", "_timestamp", "_runtime"}:
                    values[json.loads(items["_step"])][name].append(json.loads(items[name]))
                for item in [*record.run.config.update, *record.config.update]:
                    found["params"][item.key or ".".join(item.nested_key)] = str(json.loads(item.value_json))
                for item in record.summary.update:
                    if item.key.startswith("best/"):
                        found["best"][item.key] = [json.loads(item.value_json)]
                if record.HasField("run"):
                    run = record.run
                    found["runs"] = sorted({*found["runs"], run.run_id})
                    found["tags"] |= {"id": run.run_id, "name": run.display_name, "project": run.project}
                    found["tags"] |= {"entity": run.entity, "group": run.run_group, "tags": " ".join(run.tags)}
                if record.HasField("exit"):
                    found["tags"]["exit code"] = str(record.exit.exit_code)
    own = {"tags": found["params"] | found["tags"], "state": found["params"].get("prelort.state")}
    return {**apart(values), **found, **own}


if __name__ == "__main__":
    readers = {"tensorboard": tensorboard, "mlflow": mlflow, "trackio": trackio, "wandb": wandb}
    print(json.dumps(readers[sys.argv[1]](*sys.argv[2:])))
