"""The plugin of the built-in adapters, by the same entry point as any other plugin, and OpenTelemetry spans.

Spans of searches, populates and swaps are made from the reports of the notification hooks. There is nothing to switch
on: spans come when the application has set a tracer provider, and nothing is imported or done before. Names and
attributes follow OpenTelemetry's semantic conventions for databases where these have a word.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych import hookimpl
from diptych.specs import AdapterSpec
from diptych_adapters.specs import SPECS

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind, TracerProvider

    from diptych.reports import FailureReport, PopulateReport, SearchReport, SwapReport

TEXTS = "DIPTYCH_OTEL_QUERY_TEXT"  # set to "on" puts the texts of queries into spans
SCOPE = "diptych"
SECOND = 1_000_000_000
Attributes: TypeAlias = Mapping[str, str | int | float | bool | list[str] | None]


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """All built-in adapters."""
    return [*SPECS]


@hookimpl
def diptych_listens(hook: str) -> bool:
    """Whether the application has set a tracer provider; without the import of OpenTelemetry it has not."""
    return _provider() is not None


@hookimpl
def diptych_after_search(report: SearchReport) -> None:
    """A span of the search, with one for each stage beneath it."""
    from opentelemetry.trace import SpanKind

    # The conventions define the batch size only from two on. Users' query texts are there if the application allows.
    batch: dict[str, Any] = {"db.operation.batch.size": report.queries} if report.queries > 1 else {}
    texts = {"db.query.text": "; ".join(report.texts)} if os.environ.get(TEXTS) == "on" else {}
    attributes: dict[str, Any] = {"diptych.slots": list(report.slots), "diptych.hits": report.hits, **batch, **texts}
    with _span("search", report.collection, report.started, report.ended, attributes):
        for stage, (begin, end) in report.times.items():
            name, kind, own = stage, SpanKind.INTERNAL, dict[str, Any]()
            if stage == "retrieve":
                name, kind, own = "query", SpanKind.CLIENT, {**_database("query", report.collection), **batch}
            _start_span(f"{name} {report.collection}", kind, begin, own).end(end)


@hookimpl
def diptych_after_populate(report: PopulateReport) -> None:
    """A span of the populate with its counts, and one for each slot that was encoded beneath it."""
    from opentelemetry.trace import SpanKind

    counts = ("read", "new", "changed", "unchanged", "duplicates", "deleted", "set_aside")
    attributes = {f"diptych.documents.{name}": getattr(report, name) for name in counts}
    ended = report.started + round(report.seconds * SECOND)
    with _span("populate", report.collection, report.started, ended, {**attributes, **_vector_counts(report)}):
        for slot, (begin, end) in report.encode_times.items():
            slot_attributes: Attributes = {"diptych.slots": [slot], "diptych.busy_seconds": report.encode_seconds[slot]}
            _start_span(f"encode {report.collection}", SpanKind.INTERNAL, begin, slot_attributes).end(end)


@hookimpl
def diptych_after_swap(report: SwapReport) -> None:
    """A span of the apply, with its outcome."""
    attributes = {
        "diptych.swap.outcome": report.outcome,
        "diptych.swap.gate": report.gate.outcome if report.gate else None,
        "diptych.documents.changed": report.changed,
        "diptych.documents.missing": report.missing,
    }
    ended = report.started + round(report.seconds * SECOND)
    with _span("swap", report.collection, report.started, ended, {**attributes, **_vector_counts(report)}):
        pass


@hookimpl
def diptych_after_failure(report: FailureReport) -> None:
    """A span of the failure, with the class of the error but not its text."""
    from opentelemetry.trace import StatusCode

    attributes = {"error.type": report.error}
    with _span(report.operation, report.collection, report.started, report.ended, attributes) as span:
        span.set_status(StatusCode.ERROR, report.error)


def _provider() -> TracerProvider | None:
    """The application's tracer provider; None where it has set none, or the one that does nothing."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider: TracerProvider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else provider


@contextmanager
def _span(operation: str, collection: str, started: int, ended: int, attributes: Attributes) -> Iterator[Span]:
    """A span for that time below the caller's span; it is current within the block."""
    from opentelemetry.trace import SpanKind, use_span

    span_attributes: Attributes = {**_database(operation, collection), **attributes}
    span = _start_span(f"{operation} {collection}", SpanKind.INTERNAL, started, span_attributes)
    with use_span(span, end_on_exit=False):
        yield span
    span.end(ended)


def _start_span(name: str, kind: SpanKind, begin: int, attributes: Attributes) -> Span:
    from opentelemetry.trace import get_tracer

    set_attributes: Any = {key: value for key, value in attributes.items() if value is not None}
    return get_tracer(SCOPE).start_span(name, kind=kind, attributes=set_attributes, start_time=begin)


def _database(operation: str, collection: str) -> Attributes:
    return {"db.system.name": "qdrant", "db.operation.name": operation, "db.collection.name": collection}


def _vector_counts(report: PopulateReport | SwapReport) -> Attributes:
    """Numbers of vectors by slot or vector, including those from the embedding cache."""
    return {f"diptych.encoded.{name}": number for name, number in report.encoded.items()}
