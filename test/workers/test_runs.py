"""Reading a run directory into plain objects and tables."""

import ast
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from prelort_worker.errors import InputError
from prelort_worker.runs import read_run

ROOT = Path(__file__).parents[2]


def tier(r: int, accuracy: float | None, own: list[dict] | None = None) -> dict:
    return {"r": r, "loss": 1 / r, "perplexity": None, "accuracy": accuracy, "macro_f1": 0.5, "rouge_l": None,
            "own": own or [], "examples": 64, "ece": 0.25,
            "intervals": [{"name": "accuracy", "low": 0.125, "high": 0.875}]}  # fmt: skip


BEFORE = {
    "round": 0,
    "by_tier": [tier(1, 0.25), tier(4, 0.25)],
    "energy": [{"r": 1, "energy": 0}, {"r": 4, "energy": 0}],
    "coverage": [],
    "fit_loss": None,
}
FIRST = {
    "round": 1,
    "by_tier": [tier(1, 0.5), tier(4, 0.75, [{"name": "top 2", "value": 0.875}])],
    "energy": [{"r": 1, "energy": 2.5}, {"r": 4, "energy": 0.5}],
    "coverage": [{"r": 1, "clients": 3, "examples": 90}, {"r": 4, "clients": 1, "examples": 30}],
    "fit_loss": 1.5,
}
UNEVALUATED = {"round": 2, "by_tier": [], "energy": [], "coverage": FIRST["coverage"], "fit_loss": 1.25}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "quickstart"
    folder.mkdir()
    record = {"name": "quickstart", "method": {"name": "m", "note": "n"}, "config": {"fit": {"lr": 0.1}}}
    (folder / "run.json").write_text(json.dumps(record))
    write(folder / "metrics.jsonl", [BEFORE, FIRST, UNEVALUATED])
    write(folder / "timings.jsonl", [{"round": 1, "phase": "fit", "seconds": 0.5}])
    write(
        folder / "events.jsonl",
        [
            {"version": 1, "number": 4, "at": 1_790_000_000_000, "type": "round-start", "round": 1},
            {"version": 1, "number": 9, "at": 1_790_000_000_250, "type": "run-end", "sha256": "ab"},
        ],
    )
    for r in (4, 1):
        (folder / f"adapters/r{r}").mkdir(parents=True)
        (folder / f"adapters/r{r}/adapter_model.safetensors").write_bytes(b"")
    return folder


def write(file: Path, lines: list[dict]) -> None:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_a_run_has_its_name_config_method_metrics_and_adapters(folder: Path):
    run = read_run(str(folder))
    assert (run.name, run.config, run.method["name"]) == ("quickstart", {"fit": {"lr": 0.1}}, "m")
    assert run.metrics == [BEFORE, FIRST, UNEVALUATED]
    assert list(run.adapters.items()) == [(1, folder / "adapters/r1"), (4, folder / "adapters/r4")]
    with pytest.raises(FrozenInstanceError):
        run.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_tiers_has_a_row_for_each_round_and_rank_and_a_column_for_each_own_metric(folder: Path):
    tiers = read_run(folder).tiers()
    assert tiers[["round", "r", "accuracy", "loss"]].values.tolist() == [
        [0, 1, 0.25, 1], [0, 4, 0.25, 0.25], [1, 1, 0.5, 1], [1, 4, 0.75, 0.25],
    ]  # fmt: skip
    assert tiers["own/top 2"].tolist()[-1] == 0.875
    assert tiers["own/top 2"].isna().tolist() == [True, True, True, False]
    assert tiers[["ece", "accuracy/low", "accuracy/high"]].values.tolist() == [[0.25, 0.125, 0.875]] * 4
    assert "intervals" not in tiers
    # Numbers even without a value, so that they can be drawn.
    assert {str(tiers[name].dtype) for name in ("perplexity", "rouge_l", "accuracy")} == {"float64"}


def test_segments_joins_energy_and_coverage(folder: Path):
    segments = read_run(folder).segments()
    assert segments.query("round == 1").values.tolist() == [[1, 1, 2.5, 3, 90], [1, 4, 0.5, 1, 30]]
    assert segments.query("round == 0")["clients"].isna().all()
    assert segments.query("round == 2")["energy"].isna().all()


def test_timings_and_events_are_tables(folder: Path):
    run = read_run(folder)
    assert run.timings().values.tolist() == [[1, "fit", 0.5]]
    events = run.events()
    assert events["number"].tolist() == [4, 9]
    assert events["type"].tolist() == ["round-start", "run-end"]
    assert events["sha256"].tolist()[1] == "ab"


def test_a_run_that_has_only_begun_has_empty_tables_with_their_columns(folder: Path):
    for name in ("metrics.jsonl", "timings.jsonl", "events.jsonl"):
        (folder / name).unlink()
    run = read_run(folder)
    assert run.metrics == []
    assert list(run.tiers().columns[:3]) == ["round", "r", "loss"]
    assert list(run.timings().columns) == ["round", "phase", "seconds"]
    assert len(run.tiers()) == len(run.segments()) == len(run.timings()) == len(run.events()) == 0


def test_a_last_line_that_is_still_being_written_is_ignored(folder: Path):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3')
    assert [line["round"] for line in read_run(folder).metrics] == [0, 1, 2]
    (folder / "timings.jsonl").write_bytes(b'{"round": 1, "phase": "fit", "seconds": 0.5}\n{"ro')
    assert len(read_run(folder).timings()) == 1


def test_rounds_are_in_order_and_once_whatever_the_order_of_the_lines(folder: Path):
    write(folder / "metrics.jsonl", [UNEVALUATED, BEFORE, FIRST, {**FIRST, "fit_loss": 9}])
    assert [line["fit_loss"] for line in read_run(folder).metrics] == [None, 1.5, 1.25]


@pytest.mark.parametrize("damage", ["{", "[1]", '{"by_tier": []}', '{"round": 1, "by_tier": [{}]}', "\xff"])
def test_a_damaged_line_is_named_by_file_and_line(folder: Path, damage: str):
    file = folder / "metrics.jsonl"
    file.write_bytes(f"{json.dumps(BEFORE)}\n{damage}\n".encode("latin1"))
    with pytest.raises(InputError, match=re.escape(f"{file}:2 is damaged")):
        read_run(folder)


def test_a_damaged_line_of_timings_or_events_is_an_error_of_its_table_alone(folder: Path):
    for name in ("timings", "events"):
        (folder / f"{name}.jsonl").write_text("nothing\n")
        with pytest.raises(InputError, match=f"{name}.jsonl:1 is damaged"):
            getattr(read_run(folder), name)()


def test_what_is_no_run_is_refused(folder: Path):
    with pytest.raises(InputError, match="holds no run"):
        read_run(folder / "adapters")
    for missing in ("metrics.jsonl", "absent"):
        with pytest.raises(InputError, match=re.escape(f"there is no folder {folder / missing}; give a run's folder")):
            read_run(folder / missing)
    (folder / "run.json").write_text('{"name": "quickstart"}')
    with pytest.raises(InputError, match=r"run\.json: config is missing or damaged"):
        read_run(folder)


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "timings.jsonl", "events.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "socket"])
def test_what_is_no_file_is_not_waited_for_and_refused_by_name(
    folder: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
):
    file = folder / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        # Of a relative name, since an absolute one may be too long.
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    with pytest.raises(InputError, match=rf"{re.escape(str(file))} .*{kind}"):
        run = read_run(folder)
        run.timings()
        run.events()


def test_pandas_is_imported_only_for_a_table():
    script = "import sys; from prelort_worker import runs; print(sorted({'pandas', 'torch', 'numpy'} & {*sys.modules}))"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "workers", capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


def test_the_guides_snippet_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    guide = (ROOT / "workers/README.md").read_text(encoding="utf-8")
    [snippet] = [
        code for code in re.findall(r"^```py\n(.*?)^```", guide, re.DOTALL | re.MULTILINE) if "read_run" in code
    ]
    (folder.parent / "runs").mkdir()
    folder.rename(folder.parent / "runs/quickstart")
    monkeypatch.chdir(folder.parent)
    exec(compile(ast.parse(snippet), "README.md", "exec"), {"__name__": "snippet"})
    assert "quickstart 0.1 1.25" in capsys.readouterr().out
