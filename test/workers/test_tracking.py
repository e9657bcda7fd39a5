"""Delivery to a tracker: once and not twice, whatever fails, with a store in memory that fails on demand."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prelort_worker.errors import InputError
from prelort_worker.tracking.deliver import deliver
from prelort_worker.tracking.figures import ending_of, last_adapter, metrics_of, params_of, samples_of
from prelort_worker.tracking.growing import GrowingRounds
from prelort_worker.tracking.new_store import make_whole
from prelort_worker.tracking.own_files import write_file
from prelort_worker.tracking.position import BusyError, PositionFile, only_deliverer
from prelort_worker.tracking.secrets import in_words, without_secrets
from prelort_worker.tracking.tracker import Ending, Sample, State, TrackedRun

WORKERS = Path(__file__).parents[2] / "workers"

RECORD = {
    "name": "tiny",
    "prelort": "0.1.0",
    "method": {"name": "segment-wise", "note": ""},
    "config": {"rounds": 3, "lora": {"r": 8, "tiers": [1, 8]}, "workers": {"threads": 2, "count": 9}, "track": ["x"]},
    "versions": {"torch": "2.13.0"},
    "device": {"name": "a processor"},
    "layout": {},
}


def line(number: int) -> dict[str, Any]:
    return {"round": number, "by_tier": [{"r": 8, "loss": 2.0 - number, "accuracy": None, "own": []}], "bytes_down": 8}


class Run:
    """A run directory under way."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.write_record(RECORD)

    def write_record(self, record: Mapping[str, Any]) -> None:
        (self.directory / "run.json").write_text(json.dumps(record))

    def commit(self, *numbers: int) -> None:
        self.add(*map(line, numbers))

    def add(self, *lines: Mapping[str, Any]) -> None:
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.writelines(f"{json.dumps(each)}\n" for each in lines)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "tiny")


class Store:
    """What a tracker keeps. A fault strikes before or after a call has its effect, as with an answer that is lost."""

    def __init__(self, *faults: str) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.faults = list(faults)

    def call(self, name: str, act: Callable[[], Any]) -> Any:
        if f"before {name}" in self.faults:
            self.faults.remove(f"before {name}")
            raise ConnectionError("it is down")
        result = act()
        if f"after {name}" in self.faults:
            self.faults.remove(f"after {name}")
            raise ConnectionError("the answer is lost")
        return result


class StoreTracker:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.key = ""

    def check(self) -> None: ...

    def open(self, run: TrackedRun) -> str:
        self.key = run.key
        made = {"rounds": [], "samples": [], "state": "running", "tags": dict(run.tags), "params": dict(run.params)}
        self.store.call("open", lambda: self.store.runs.setdefault(run.key, made).update(state="running"))
        return f"id of {run.key}"

    def last_round(self) -> int:
        return max((number for number, _, _ in self.store.runs[self.key]["rounds"]), default=-1)

    def log(self, number: int, metrics: Mapping[str, float], samples: Sequence[Sample], at: float) -> None:
        found, added = self.store.runs[self.key], (number, dict(metrics), at)
        self.store.call("log", lambda: (found["rounds"].append(added), found["samples"].append((number, *samples))))

    def close(self, ending: Ending) -> None:
        told = {"state": ending.state, "best": dict(ending.best), "last_tags": dict(ending.tags)}
        self.store.call("close", lambda: self.store.runs[self.key].update(told))


class Script:
    """A channel that does one thing at each wait, the last of which ends the run, and notes what is reported."""

    def __init__(self, *steps: Callable[[], Any], state: State = "finished", **told: Any) -> None:
        self.steps = list(steps)
        self.end = ending_of({"state": state, **told})
        self.reports: list[tuple[str, Any]] = []

    def ending(self) -> Ending | None:
        return None if self.steps else self.end

    def wait(self, seconds: float) -> None:
        if self.steps:
            self.steps.pop(0)()

    def report(self, kind: str, **fields: Any) -> None:
        self.reports.append((kind, fields.get("round", fields.get("message"))))


def deliver_to(store: Store, run: Run, channel: Script) -> dict[str, Any]:
    deliver("mlflow", {}, run.directory, lambda: StoreTracker(store), channel)
    [found] = store.runs.values()
    return found


def numbers(found: dict[str, Any]) -> list[int]:
    return [number for number, _, _ in found["rounds"]]


def test_rounds_are_delivered_as_they_are_committed_and_the_state_at_the_end(run: Run):
    channel = Script(lambda: run.commit(0), lambda: run.commit(1, 2))
    found = deliver_to(Store(), run, channel)
    assert found["rounds"] == [(n, metrics_of(line(n)), at) for n, (_, _, at) in enumerate(found["rounds"])]
    assert numbers(found) == [0, 1, 2]
    assert found["state"] == "finished"
    assert channel.reports == [("open", -1), ("delivered", 0), ("delivered", 1), ("delivered", 2), ("closed", None)]


@pytest.mark.parametrize(
    "fault", [f"{when} {call}" for when in ("before", "after") for call in ("open", "log", "close")]
)
def test_a_fault_at_any_call_loses_nothing_and_delivers_nothing_twice(run: Run, fault: str):
    run.commit(0, 1)
    channel = Script(lambda: run.commit(2), lambda: None)
    found = deliver_to(Store(fault), run, channel)
    assert numbers(found) == [0, 1, 2]
    assert found["state"] == "finished"
    assert [report[0] for report in channel.reports].count("behind") == 1


def test_a_tracker_that_is_down_for_long_gets_everything_when_it_is_back(run: Run):
    run.commit(0)
    channel = Script(*[lambda: None] * 3, lambda: run.commit(1, 2))
    found = deliver_to(Store(*["before open"] * 4), run, channel)
    assert numbers(found) == [0, 1, 2]


def test_a_second_delivery_adds_nothing_and_goes_on_as_the_same_run(run: Run):
    store = Store()
    run.commit(0, 1)
    assert deliver_to(store, run, Script(state="killed"))["state"] == "killed"
    assert deliver_to(store, run, Script(state="running"))["rounds"] == store.runs.popitem()[1]["rounds"]


def test_a_resumed_run_continues_where_the_tracker_is(run: Run):
    store = Store()
    run.commit(0, 1)
    deliver_to(store, run, Script(state="killed"))
    # Trained again, and to the end.
    run.commit(1, 2, 3)
    found = deliver_to(store, run, Script())
    assert numbers(found) == [0, 1, 2, 3]
    assert found["state"] == "finished"


def test_nothing_is_delivered_of_a_run_that_has_only_begun(run: Run):
    run.write_record({key: value for key, value in RECORD.items() if key != "layout"})
    store = Store()
    channel = Script(state="failed")
    deliver("mlflow", {}, run.directory, lambda: StoreTracker(store), channel)
    assert store.runs == {}
    assert channel.reports == [("closed", None)]


def test_a_missing_round_holds_back_later_ones_until_the_run_has_finished(run: Run):
    store = Store()
    run.commit(0, 2)
    assert numbers(deliver_to(store, run, Script(state="killed"))) == [0]
    run.commit(1)
    assert numbers(deliver_to(store, run, Script(state="killed"))) == [0, 1, 2]
    run.commit(4)
    assert numbers(deliver_to(store, run, Script())) == [0, 1, 2, 4]


def test_torn_and_damaged_lines_are_passed_over_and_a_replaced_file_is_read_again(run: Run):
    rounds = GrowingRounds(run.directory)
    file = run.directory / "metrics.jsonl"
    file.write_text(f'{json.dumps(line(0))}\n{{"round"\n[1]\n{json.dumps(line(1))[:20]}')
    assert [number for number, _ in rounds.after(-1, past_gaps=False)] == [0]
    with file.open("a") as appended:
        appended.write(f"{json.dumps(line(1))[20:]}\n")
    assert [number for number, _ in rounds.after(0, past_gaps=False)] == [1]
    other = file.with_suffix(".partial")
    other.write_text("".join(f"{json.dumps(line(number))}\n" for number in range(4)))
    other.replace(file)
    assert [number for number, _ in rounds.after(1, past_gaps=False)] == [2, 3]


def test_a_round_has_the_time_of_its_event_and_keeps_the_time_of_its_first_attempt(run: Run):
    run.commit(0)
    event = {"version": 1, "number": 1, "at": 1_790_000_000_500, "type": "round-end", "round": 0}
    (run.directory / "events.jsonl").write_text(f"{json.dumps(event)}\n")
    assert deliver_to(Store(), run, Script())["rounds"][0][2] == 1_790_000_000.5
    first = PositionFile(run.directory, "trackio", {})
    assert first.sending(3, 10.0) == 10.0
    again = PositionFile(run.directory, "trackio", {})
    assert again.sending(3, 20.0) == 10.0
    assert again.sending(4, 20.0) == 20.0


def test_the_runs_own_id_is_on_disk_before_the_tracker_is_told_of_it(run: Run):
    seen: list[str] = []

    class Watching(StoreTracker):
        def open(self, run: TrackedRun) -> str:
            seen.append(json.loads((run.directory / "track/mlflow.json").read_text())["key"])
            return super().open(run)

    store = Store("after open")
    deliver("mlflow", {}, run.directory, lambda: Watching(store), Script(lambda: None))
    assert seen == [*store.runs] * 2
    assert json.loads((run.directory / "track/mlflow.json").read_text())["remote"] == f"id of {seen[0]}"


def test_another_address_is_another_run_with_the_same_own_id(run: Run):
    here = PositionFile(run.directory, "mlflow", {"tracking_uri": "http://a"})
    here.remember("7")
    there = PositionFile(run.directory, "mlflow", {"tracking_uri": "http://b"})
    assert (there.position.key, there.position.remote) == (here.position.key, None)
    assert PositionFile(run.directory, "mlflow", {"tracking_uri": "http://a"}).position.remote == "7"


def test_a_damaged_position_is_refused_by_name_since_the_run_would_be_delivered_twice(run: Run):
    PositionFile(run.directory, "mlflow", {})
    sound = json.loads((run.directory / "track/mlflow.json").read_text())
    searching_for_more = json.dumps({**sound, "key": "a' AND tags.`b` != 'c"})
    for damage in ("{", '{"key": "a"}', searching_for_more, json.dumps({**sound, "remote": 7})):
        (run.directory / "track/mlflow.json").write_text(damage)
        with pytest.raises(InputError, match=r"track/mlflow\.json"):
            PositionFile(run.directory, "mlflow", {})


class Restoring(Script):
    """Puts the right file in the place of the wrong one once the delivery says that it is behind."""

    def __init__(self, file: Path, text: str | None) -> None:
        super().__init__()
        self.file, self.text = file, text

    def report(self, kind: str, **fields: Any) -> None:
        super().report(kind, **fields)
        if kind == "behind":
            self.file.unlink()
            if self.text is not None:
                self.file.write_text(self.text)


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "events.jsonl", "journal.jsonl", "track/mlflow.json"])
def test_a_pipe_or_a_link_in_place_of_a_runs_file_is_not_waited_for_and_reported_by_name(
    run: Run, tmp_path: Path, name: str, kind: str
):
    run.commit(0, 1)
    file = run.directory / name
    text = file.read_text() if file.exists() else None
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        (tmp_path / "elsewhere").write_text(text or "{}")
        file.symlink_to(tmp_path / "elsewhere")
    channel = Restoring(file, text)
    assert numbers(deliver_to(Store(), run, channel)) == [0, 1]
    [told] = [said for kind, said in channel.reports if kind == "behind"]
    assert str(file) in told
    assert kind in told


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_written_through_a_link_in_place_of_the_folder_of_positions(
    run: Run, tmp_path: Path, is_there: bool
):
    elsewhere = tmp_path / "elsewhere"
    if is_there:
        elsewhere.mkdir()
    (run.directory / "track").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"track is a link"), only_deliverer(run.directory, "mlflow"):
        pass
    with pytest.raises(InputError, match=r"track is a link"):
        PositionFile(run.directory, "mlflow", {})
    assert not is_there or list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["a.json", "a.json.partial"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_has_the_name_of_a_trackers_file_is_replaced_and_not_written_to(tmp_path: Path, name: str, kind: str):
    (tmp_path / "other").write_text("years of work")
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("other")
    write_file(tmp_path / "a.json", "{}")
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json").read_text() == "{}"
    assert (tmp_path / "other").read_text() == "years of work"


def test_only_one_process_delivers_a_run_to_a_tracker(run: Run):
    with only_deliverer(run.directory, "mlflow"):
        with pytest.raises(BusyError), only_deliverer(run.directory, "mlflow"):
            pass
        with only_deliverer(run.directory, "trackio"):
            pass
    with only_deliverer(run.directory, "mlflow"):
        pass


def test_metrics_have_the_names_that_all_trackers_use_and_only_numbers():
    own = {"name": "top ½", "value": 1}
    found = metrics_of(
        {
            "round": 2,
            "by_tier": [{"r": 4, "loss": 0.5, "accuracy": 0.75, "perplexity": None, "own": [own]}],
            "merged": {"r": 4, "loss": 0.25, "own": []},
            "energy": [{"r": 4, "energy": 3}],
            "coverage": [{"r": 4, "clients": 5, "examples": 90}],
            "fit_loss": 1.5,
            "reported": ["a", "b"],
            "failed": [],
            "passes": 7,
            "bytes_down": 10,
            "bytes_up": 20,
        }
    )  # fmt: skip
    assert found == {
        "tier/4/loss": 0.5, "tier/4/accuracy": 0.75, "tier/4/own/top _": 1, "merged/loss": 0.25, "segment/4/energy": 3,
        "segment/4/contributors": 5, "segment/4/examples": 90, "fit/loss": 1.5, "fit/passes": 7, "clients/reported": 2,
        "clients/failed": 0, "clients/late": 0, "bytes/down": 10, "bytes/up": 20,
    }  # fmt: skip


def test_the_best_round_and_the_reason_of_an_early_end_are_told_with_the_state_in_which_a_run_ended(run: Run):
    run.commit(0, 1, 2)
    (run.directory / "journal.jsonl").write_text(f"{json.dumps({'type': 'commit', 'sha256': 'ab'})}\n")
    best = {"round": 1, "value": 0.75, "metric": "top ½", "at": "area"}
    found = deliver_to(Store("after close"), run, Script(best=best, stopped={"round": 2, "reason": "patience"}))
    assert found["best"] == {"best/round": 1.0, "best/top _": 0.75}
    assert found["last_tags"] == {"prelort.adapter_sha256": "ab", "prelort.stopped": "patience"}
    assert ending_of({"state": "killed"}) == Ending("killed")


def test_samples_are_delivered_with_their_round_and_only_what_can_be_encoded_of_them(run: Run):
    answers = [{"r": 1, "text": "half \ud83d of a pair"}, {"r": 8, "text": ""}]
    told = {**line(0), "samples": [{"prompt": "What is <b>?", "reference": "a\nb", "answers": answers}]}
    run.add(told, line(1))
    found = deliver_to(Store("before log"), run, Script(lambda: None))
    assert found["samples"] == [(0, Sample("What is <b>?", "a\nb", {1: "half ? of a pair", 8: ""})), (1,)]
    assert samples_of(line(1)) == []


@pytest.mark.parametrize(
    "samples",
    [
        "text",
        [7],
        [{"prompt": "a", "reference": "b"}],
        [{"prompt": 1, "reference": "b", "answers": []}],
        [{"prompt": "a", "reference": "b", "answers": [{"r": "1", "text": ""}]}],
        [{"prompt": "a", "reference": "b", "answers": [{"r": 1, "text": None}]}],
    ],
)
def test_a_round_whose_samples_are_damaged_is_damaged(run: Run, samples: Any):
    run.add({**line(0), "samples": samples}, line(1))
    assert numbers(deliver_to(Store(), run, Script())) == [1]


def test_params_are_the_flat_config_without_how_it_is_carried_out():
    assert params_of(RECORD) == {
        "rounds": 3, "lora.r": 8, "lora.tiers": "[1, 8]", "workers.threads": 2, "method": "segment-wise",
        "versions.prelort": "0.1.0", "versions.torch": "2.13.0", "device": "a processor",
    }  # fmt: skip


def test_the_last_adapter_is_that_of_the_last_commit(run: Run):
    assert last_adapter(run.directory) is None
    entries = [{"type": "commit", "sha256": "ab"}, {"type": "commit", "sha256": "cd"}, {"type": "end"}]
    (run.directory / "journal.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    assert last_adapter(run.directory) == "cd"


def test_what_is_said_holds_no_credentials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter22-token")
    monkeypatch.setenv("SOME_KEY", "a")
    assert without_secrets("401 for hunter22-token at http://me:pass@host/a") == "401 for *** at http://***@host/a"
    assert in_words(ValueError("no: hunter22-token\nat line 7")) == "ValueError: no: ***"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """The program with a client that prints, in place of mlflow's."""
    package = tmp_path / "client/mlflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("print('a banner')\n")
    process = subprocess.Popen(
        [sys.executable, str(WORKERS / "run.py"), "prelort_worker.tracking.__main__", "check", "--name", "mlflow",
         "--directory", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{package.parent}:{WORKERS}"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()


def test_a_client_without_what_it_needs_is_missing_and_its_prints_are_not_our_protocol(client: subprocess.Popen):
    output, _ = client.communicate()
    assert json.loads(output)["type"] == "missing"


# In place of mlflow's client: makes a part of the store, tells of itself through a pipe, and waits to be killed unless
# there is nobody to tell.
HALF_DONE = """
import os, time
class MlflowClient:
    def __init__(self, uri):
        open(uri.removeprefix("sqlite:///"), "w").close()
    def search_experiments(self):
        if told := os.environ.get("TOLD"):
            with open(told, "w") as pipe:
                pipe.write(str(os.getpid()))
            while True:
                time.sleep(60)
"""


class Making:
    """A process that makes a store, and is half done with it."""

    def __init__(self, folder: Path) -> None:
        (folder / "client").mkdir()
        (folder / "client/mlflow.py").write_text(HALF_DONE)
        self.store = folder / "stores/a.db"
        os.mkfifo(folder / "told")
        self.variables = {"PYTHONPATH": f"{folder / 'client'}:{WORKERS}"}
        program = (
            "import sys, pathlib; from prelort_worker.tracking.new_store import make_whole; "
            "make_whole(pathlib.Path(sys.argv[1]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.store)],
            env={**os.environ, **self.variables, "TOLD": str(folder / "told")},
        )
        self.maker = int((folder / "told").read_text())

    def end(self, how: signal.Signals) -> None:
        """Returns once its maker has ended too."""
        maker = os.pidfd_open(self.maker)
        self.process.send_signal(how)
        self.process.wait()
        select.select([maker], [], [])
        os.close(maker)


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Making]:
    making = Making(tmp_path)
    yield making
    making.process.kill()
    making.process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_process_that_is_asked_to_end_leaves_nothing_of_a_store_half_made(making: Making):
    making.end(signal.SIGTERM)
    assert list(making.store.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("is_made_meanwhile", [False, True])
def test_what_makes_a_store_ends_with_its_parent_and_its_rest_is_removed_at_the_next_start(
    making: Making, monkeypatch: pytest.MonkeyPatch, is_made_meanwhile: bool
):
    making.end(signal.SIGKILL)
    assert [file.name for file in making.store.parent.iterdir()] == [".a.db.prelort"]
    if is_made_meanwhile:
        making.store.write_text("by another one")
    monkeypatch.setenv("PYTHONPATH", making.variables["PYTHONPATH"])
    make_whole(making.store)
    assert [file.name for file in making.store.parent.iterdir()] == ["a.db"]
    assert making.store.read_text() == ("by another one" if is_made_meanwhile else "")
