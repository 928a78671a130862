"""Spans of what diptych does, as an application with OpenTelemetry's SDK sees them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from diptych import Collection, Registry
from diptych.config import Config
from diptych.errors import DiptychError, SearchError
from diptych.search import Rerank, Retrieve, Rrf
from diptych.testing import fakes_plugin
from diptych_adapters import hooks
from named_server import placed

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}, "lexical": {"adapter": "fake-sparse"}}
DOCUMENTS = [{"id": str(n), "text": f"secret words of number {n}"} for n in range(6)]
PIPELINE = Retrieve("dense") + Retrieve("lexical") >> Rrf() >> Rerank("fake-reranker", 5)


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """OpenTelemetry, as an application sets it up once for its process; gone with this file.

    A provider that is left behind after its end has every later search of this process logged as a warning. There is
    no public way to take one away.
    """
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", None)
        patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
        trace.set_tracer_provider(provider)
        yield exporter
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture(params=["memory:", "server"])
def collection(
    request: pytest.FixtureRequest, exporter: InMemorySpanExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collection]:
    monkeypatch.chdir(tmp_path)
    registry = Registry(fakes_plugin, hooks, installed=False)
    with placed(request.param, tmp_path / "store", "packages") as place:
        config = Config.model_validate({**place, "collection": "packages", "slots": SLOTS})
        with Collection.open(config, registry=registry) as opened:
            opened.populate(DOCUMENTS)
            exporter.clear()
            yield opened


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: Any) -> int:
    found: int = span.get_span_context().span_id
    return found


def test_a_search_is_a_span_beneath_the_callers_with_its_stages_beneath_it(
    collection: Collection, spans: InMemorySpanExporter
) -> None:
    before = time.time_ns()
    with trace.get_tracer("app").start_as_current_span("request") as request:
        hits = collection.search("words", pipeline=PIPELINE, limit=3)
    found, after = by_name(spans), time.time_ns()
    search = found["search packages"]
    stages = [found[f"{name} packages"] for name in ("encode", "query", "rerank")]
    assert parent_of(search) == id_of(request)
    assert [parent_of(stage) for stage in stages] == [id_of(search)] * 3
    assert len({span.context.trace_id for span in found.values()}) == 1
    assert dict(search.attributes or {}) == {
        "db.system.name": "qdrant",
        "db.operation.name": "search",
        "db.collection.name": "packages",
        "diptych.slots": ("dense", "lexical"),
        "diptych.hits": len(hits),
    }
    assert stages[1].kind is trace.SpanKind.CLIENT
    ends = [search.start_time or 0, *(t or 0 for s in stages for t in (s.start_time, s.end_time)), search.end_time or 0]
    moments = [before, *ends, after]
    slack = 5_000_000  # the two clocks need not agree to the microsecond
    assert all(a <= b + slack for a, b in pairwise(moments))


def test_searches_that_are_awaited_together_are_each_beneath_their_own_caller(
    collection: Collection, spans: InMemorySpanExporter
) -> None:
    async def one(number: int) -> int:
        with trace.get_tracer("app").start_as_current_span(f"request {number}") as request:
            await collection.asearch(f"words {number}", pipeline=PIPELINE if number % 2 else None)
        return id_of(request)

    async def everyone() -> list[int]:
        return await asyncio.gather(*map(one, range(8)))

    requests = asyncio.run(everyone())
    searches = [span for span in spans.get_finished_spans() if span.name == "search packages"]
    assert sorted(parent_of(span) or 0 for span in searches) == sorted(requests)


@pytest.mark.parametrize(
    ("question", "stages"),
    [
        (lambda c: c.search_groups("words", group_by="text"), {"encode packages", "query packages"}),
        (lambda c: c.search_by_vector([1.0] * 8, Retrieve("dense")), {"query packages"}),
    ],
)
def test_other_questions_are_searches_too(
    collection: Collection, spans: InMemorySpanExporter, question: Any, stages: set[str]
) -> None:
    question(collection)
    assert set(by_name(spans)) == {"search packages", *stages}


def test_texts_are_left_out_unless_the_application_wants_them(
    collection: Collection, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.search("secret words", pipeline=PIPELINE)
    assert "secret" not in "".join(span.to_json() for span in spans.get_finished_spans())
    monkeypatch.setenv(hooks.TEXTS, "on")
    collection.search("secret words")
    assert (by_name(spans)["search packages"].attributes or {})["db.query.text"] == "secret words"


def test_a_populate_is_a_span_with_its_counts(collection: Collection, spans: InMemorySpanExporter) -> None:
    report = collection.populate([*DOCUMENTS, {"id": "new", "text": "a secret"}, {"id": "empty", "text": ""}])
    *encoded, span = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert [(own.name, parent_of(own)) for own in encoded] == [("encode packages", id_of(span))] * 2
    slots: list[Any] = [(own.attributes or {})["diptych.slots"] for own in encoded]
    assert sorted(slots) == [("dense",), ("lexical",)], "one may end before the other"
    assert (span.name, span.start_time) == ("populate packages", report.started)
    names = ("read", "new", "unchanged", "set_aside")
    assert [attributes[f"diptych.documents.{name}"] for name in names] == [8, 1, 6, 1]
    assert attributes["diptych.encoded.dense"] == 1
    assert "secret" not in span.to_json()


def test_a_swap_is_a_span_with_its_outcome(collection: Collection, spans: InMemorySpanExporter) -> None:
    slots = {**SLOTS, "dense": {"adapter": "fake-dense", "dimension": 16}}
    collection.apply(Config.model_validate({"collection": "packages", "slots": slots}))
    span = by_name(spans)["swap packages"]
    attributes = dict(span.attributes or {})
    assert attributes["diptych.swap.outcome"] == "cut over"
    assert attributes["diptych.encoded.dense.2"] == 6
    assert (span.end_time or 0) > (span.start_time or 0)


def test_a_failure_is_a_span_with_the_class_of_the_error_alone(
    collection: Collection, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(SearchError):
        asyncio.run(collection.asearch("secret", pipeline=Retrieve("nothing")))
    with pytest.raises(DiptychError):
        collection.populate(iter_that_breaks())
    search, populate = (span for span in spans.get_finished_spans() if not span.name.startswith("encode"))
    assert (search.name, populate.name) == ("search packages", "populate packages")
    assert (search.attributes or {})["error.type"] == "SearchError"
    assert search.status.status_code is trace.StatusCode.ERROR
    assert "secret" not in search.to_json() + populate.to_json()


def iter_that_breaks() -> Iterator[Any]:
    yield DOCUMENTS[0]
    raise OSError("a secret path")


WITHOUT_A_PROVIDER = """
import sys
from diptych import Collection, Registry
from diptych.config import Config
from diptych.testing import fakes_plugin
{imports}
slots = {{"dense": {{"adapter": "fake-dense"}}}}
config = Config.model_validate({{"store": "memory:", "collection": "c", "slots": slots}})
registry = Registry(fakes_plugin)
with Collection.open(config, registry=registry) as collection:
    collection.populate([{{"id": "1", "text": "words"}}])
    collection.search("words")
    assert not registry.listening("diptych_after_search")
    print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
    print("opentelemetry.trace" in sys.modules)
"""


@pytest.mark.parametrize(("imports", "imported"), [("", "False"), ("import opentelemetry.trace", "True")])
def test_nothing_is_imported_and_nothing_listens_without_a_provider(
    imports: str, imported: str, tmp_path: Path
) -> None:
    code = WITHOUT_A_PROVIDER.format(imports=imports)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", imported]
