"""
Traces of tasks, if this environment has OpenTelemetry's API and the controller traces the run.

If an SDK is set up in this process, by a task of the user's own for example, it gets each task as a span of the run's
trace, and whatever is traced during the task as a part of that. Without an SDK, nothing is recorded.
"""

from contextlib import AbstractContextManager, nullcontext

from .wire.messages import Evaluate, Fit, TaskMessage


def task_span(task: TaskMessage) -> AbstractContextManager[object]:
    """A span around a task, as a child of the span that asked for it. Imports nothing if that is not traced."""
    if task.traceparent is None:
        return nullcontext()
    try:
        from opentelemetry.context import Context  # pyright: ignore[reportMissingImports]
        from opentelemetry.trace import SpanKind, get_tracer  # pyright: ignore[reportMissingImports]
        from opentelemetry.trace.propagation import tracecontext  # pyright: ignore[reportMissingImports]
    except ImportError:
        return nullcontext()
    propagator = tracecontext.TraceContextTextMapPropagator()
    return get_tracer("prelort").start_as_current_span(
        "prelort.task",
        context=propagator.extract({"traceparent": task.traceparent}, Context()),
        kind=SpanKind.SERVER,
        attributes=_attributes(task),
    )


def _attributes(task: TaskMessage) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "prelort.task.id": task.task_id,
        "prelort.task.kind": type(task).__name__.lower(),
        "prelort.attempt": task.attempt,
    }
    if isinstance(task, Fit | Evaluate):
        attributes["prelort.round"] = task.round
        if task.client_id is not None:
            attributes["prelort.client.id"] = task.client_id
    return {**attributes, "prelort.rank": task.r} if isinstance(task, Fit) else attributes
