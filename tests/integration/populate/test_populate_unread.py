"""What encoders leave unread of documents, as populate, plan and info report it, also after a swap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client.client_base import QdrantBase

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.reports import UnreadTokens
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeReranker

OpenHandle = Callable[..., CollectionHandle]
LIMITED: dict[str, Any] = {
    "dense": {"adapter": "fake-dense", "dimension": 16, "max_tokens": 10},
    "terms": {"adapter": "fake-sparse", "max_tokens": 100},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
}


def corpus(size: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Every second document has 16 words of five letters, the others four."""
    return [
        {"id": f"d{n}", "text": " ".join(f"w{n:03}{k:x}" for k in range(4 if n % 2 else 16))}
        for n in range(first, first + size)
    ]


def info_of(handle: CollectionHandle) -> dict[str, UnreadTokens | None]:
    return {slot.name: slot.unread for slot in Collection(handle).info().slots}


def test_populate_reports_by_slot_what_was_not_read_and_warns(client: QdrantBase, open_handle: OpenHandle) -> None:
    report = populate(open_handle(client, LIMITED), corpus(20))
    dense, terms = report.unread["dense"], report.unread["terms"]
    assert (dense.documents, dense.longer, dense.unread) == (20, 10, 60)
    assert (terms.documents, terms.longer, terms.unread) == (20, 0, 0)
    assert dense.share == 0.3
    assert "lexical" not in report.unread
    (warning,) = report.warnings
    assert warning.startswith(
        f"slot 'dense': {dense}, and no query of this slot finds what they say. Let it read passages"
    )


def test_info_has_the_sums_of_all_populates(client: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(client, LIMITED), corpus(20))
    report = populate(open_handle(client, LIMITED), corpus(30))
    assert report.unread["dense"].documents == 10, "documents that are there already are not encoded"
    assert populate(open_handle(client, LIMITED), corpus(30)).unread == {}
    found = info_of(open_handle(client, LIMITED))
    assert found["lexical"] is None
    assert found["dense"] == UnreadTokens(10, 30, 15, 300, 90)


def test_plan_tells_of_a_sample_and_a_back_fill_is_counted_too(fakes: Registry, client: QdrantBase) -> None:
    def config(**dense: Any) -> Config:
        own = {"adapter": "fake-dense", "dimension": 16, **dense}
        return Config.model_validate({"collection": "c", "slots": {"dense": own}, "cache": {"enabled": False}})

    opened = Collection(CollectionHandle(client, "c", config(), fakes))
    assert opened.populate(corpus(20)).unread == {}
    wanted = config(max_tokens=10)
    plan = opened.plan(wanted)
    assert plan.steps[0].unread == UnreadTokens(10, 20, 10, 200, 60, sampled=True)
    assert any("30% of all tokens unread" in warning for warning in plan.warnings)
    assert opened.plan(wanted, sample=0).steps[0].unread is None
    opened.apply(wanted, ApplyOptions(unmeasured=True))
    assert info_of(CollectionHandle(client, "c", wanted, fakes))["dense"] == UnreadTokens(10, 20, 10, 200, 60)


class ShortReranker(FakeReranker):
    """Reads 200 tokens of a pair."""

    max_length = 200


class BringsShortReranker:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`short-reranker`."""
        return [AdapterSpec(name="short-reranker", kind="reranker", factory=f"{__name__}:ShortReranker", summary="")]


def warnings_of(client: QdrantBase, rows: list[dict[str, Any]], slots: dict[str, Any], **search: Any) -> list[str]:
    registry = Registry(fakes_plugin, BringsShortReranker(), installed=False)
    wanted = Config.model_validate({"collection": "c", "slots": slots, "search": search, "cache": {"enabled": False}})
    opened = Collection(CollectionHandle(client, "c", wanted, registry))
    opened.populate(rows)
    return [*opened.plan(wanted).warnings]


def test_plan_names_a_rescoring_stage_that_judges_documents_by_their_beginning(client: QdrantBase) -> None:
    slots = {
        "dense": {"adapter": "fake-dense", "dimension": 16},
        "late": {"adapter": "fake-multivector", "max_tokens": 10},
    }
    (warning,) = warnings_of(client, corpus(20), slots, rescore={"slot": "late"})
    assert warning == (
        "search.rescore judges long documents by their beginning: slot 'late' has no passages, and 50% of a sample of "
        "20 documents are longer than 10 tokens, 30% of all tokens unread. Give the slot passages: {tokens: 10}, or "
        "leave the stage out if diptych evaluate shows that it loses"
    )


def test_plan_names_no_rescoring_stage_whose_slot_has_passages(client: QdrantBase) -> None:
    slots = {
        "dense": {"adapter": "fake-dense", "dimension": 16},
        "late": {"adapter": "fake-multivector", "max_tokens": 20, "passages": {"tokens": 16}},
    }
    rows = [{"id": f"d{n}", "text": "word " * 40} for n in range(20)]
    assert warnings_of(client, rows, slots, rescore={"slot": "late"}) == []


def test_plan_names_a_reranker_that_judges_documents_by_their_beginning(client: QdrantBase) -> None:
    rows = [{"id": f"d{n}", "text": "word " * (20 if n % 2 else 400)} for n in range(20)]
    stage: dict[str, Any] = {"adapter": "short-reranker", "candidates": 10}
    slots: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}
    (warning,) = warnings_of(client, rows, slots, rerank=[stage])
    assert warning == (
        "search.rerank[0] (short-reranker) judges long documents by their beginning: it reads 200 tokens of query and "
        "document, and about 10 of a sample of 20 documents are longer. To let it read more, give a slot that is "
        "searched passages: {tokens: 200}, whose best ones it then reads"
    )


def test_plan_names_no_reranker_that_reads_passages_unless_it_reads_the_document(client: QdrantBase) -> None:
    rows = [{"id": f"d{n}", "text": "word " * (20 if n % 2 else 400)} for n in range(20)]
    stage: dict[str, Any] = {"adapter": "short-reranker", "candidates": 10}
    slots: dict[str, Any] = {"late": {"adapter": "fake-multivector", "max_tokens": 100, "passages": {"tokens": 50}}}
    assert warnings_of(client, rows, slots, rerank=[stage]) == []
    (warning,) = warnings_of(client, rows, slots, rerank=[{**stage, "read": "document"}])
    assert warning.endswith("To let it read more, leave out read: document, and it reads the best passages")
