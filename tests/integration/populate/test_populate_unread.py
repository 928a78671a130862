"""What encoders leave unread of documents, as populate, plan and info report it, also after a swap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.reports import UnreadTokens

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
    opened.apply(wanted)
    assert info_of(CollectionHandle(client, "c", wanted, fakes))["dense"] == UnreadTokens(10, 20, 10, 200, 60)
