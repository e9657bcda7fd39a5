"""A task as a span of the run's trace."""

import json
import sys
from pathlib import Path

import pytest
from controller import WORKERS, real_worker
from prelort_worker.tracing import task_span
from prelort_worker.wire.messages import Basis, Collect, Evaluate, Failure, Fit
from specs import FIT, SEED

TRACEPARENT = f"00-{'4b' * 16}-{'a7' * 8}-01"

# Stands in for OpenTelemetry's API, and writes what it is asked for to a file.
FAKE = {
    "opentelemetry/context.py": "class Context(dict): pass",
    "opentelemetry/trace/propagation/tracecontext.py": """
from opentelemetry.context import Context

class TraceContextTextMapPropagator:
    def extract(self, carrier, context=None):
        return Context({**context, "parent": carrier["traceparent"]})
""",
    "opentelemetry/trace/__init__.py": """
import contextlib, enum, json, os

class SpanKind(enum.Enum):
    INTERNAL = 0
    SERVER = 1

def tell(**what):
    with open(os.environ["SPANS"], "a") as file:
        print(json.dumps(what), file=file)

class Tracer:
    def __init__(self, name):
        self.name = name

    @contextlib.contextmanager
    def start_as_current_span(self, name, context=None, kind=SpanKind.INTERNAL, attributes=None):
        error = None
        try:
            yield
        except Exception as raised:
            error = str(raised)
            raise
        finally:
            tell(tracer=self.name, name=name, context=context, kind=kind.name, attributes=attributes, error=error)

def get_tracer(name):
    return Tracer(name)

tell(imported=__name__)
""",
}


def fit(task_id: str, traceparent: str | None) -> Fit:
    return Fit(task_id, 2, 3, "c07", 4, 2.0, SEED, FIT, "F32", [], None, traceparent)


TRACED = [
    fit("fit", TRACEPARENT),
    Collect("sum", 1, Basis(3, "a", 2.0), "F64", TRACEPARENT),
    Evaluate("all", 1, 0, "global", None, [4], 2.0, 0, 8, 8, 0, [], TRACEPARENT),
]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    for name, code in FAKE.items():
        file = tmp_path / "packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    return tmp_path / "packages"


def test_a_worker_runs_a_traced_task_in_a_span_of_its_trace_and_imports_nothing_for_others(
    fake: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    spans = tmp_path / "spans"
    environment = {"PYTHONPATH": f"{WORKERS}:{fake}", "SPANS": str(spans)}
    with real_worker(tmp_path_factory.mktemp("s"), "cpu", **environment) as worker:
        worker.receive()  # hello
        worker.run(fit("untraced", None), Failure)
        assert not spans.exists()
        for task in TRACED:
            worker.run(task, Failure)
        worker.run(fit("untraced again", None), Failure)
    imported, *told = [json.loads(line) for line in spans.read_text().splitlines()]
    assert imported == {"imported": "opentelemetry.trace"}
    assert [span.pop("attributes") for span in told] == [
        {
            "prelort.task.id": "fit",
            "prelort.task.kind": "fit",
            "prelort.attempt": 2,
            "prelort.round": 3,
            "prelort.client.id": "c07",
            "prelort.rank": 4,
        },
        {"prelort.task.id": "sum", "prelort.task.kind": "collect", "prelort.attempt": 1},
        {"prelort.task.id": "all", "prelort.task.kind": "evaluate", "prelort.attempt": 1, "prelort.round": 0},
    ]
    assert told == [
        {
            "tracer": "prelort",
            "name": "prelort.task",
            "context": {"parent": TRACEPARENT},
            "kind": "SERVER",
            "error": f"{task.task_id}: no model is loaded; expected a load task first",
        }
        for task in TRACED
    ]


def test_a_traced_task_runs_where_there_is_no_opentelemetry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ValueError, match=r"^of its own$"), task_span(fit("t", TRACEPARENT)):
        raise ValueError("of its own")
