"""Documents whose passages were shown are remembered, and never shown with what is no longer stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection, Document

from .conftest import Open

SLOTS = {"dense": {"adapter": "fake-dense", "passages": {"tokens": 40, "overlap": 0}}}
QUERY = "w17 w23 w99"


def documents() -> list[Document]:
    random = np.random.default_rng(5)
    texts = ["\n\n".join(" ".join(f"w{word}" for word in random.integers(0, 120, 9)) + "." for _ in range(24))] * 2
    texts += ["\n\n".join(" ".join(f"w{word}" for word in random.integers(0, 120, 9)) + "." for _ in range(20))]
    return [Document(f"d{n}", text) for n, text in enumerate(texts)]


@pytest.fixture
def long(opened: Open) -> Collection:
    collection = opened({"slots": SLOTS})
    collection.populate([Document("first", "a write before the others")])  # whose points have version 0 on Edge
    collection.populate(documents())
    return collection


def by_id(collection: Collection) -> dict[str, Any]:
    return {hit.id: hit.passages for hit in collection.search(QUERY, limit=3)}


def test_hits_seen_again_show_the_same_passages_without_a_request_for_vectors(
    long: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_id(long)
    if not long.search(QUERY, limit=1)[0].version:
        pytest.skip("local mode gives all points version 0")
    monkeypatch.setattr(long.client, "retrieve", None)
    assert by_id(long) == before
    assert all(len(passages) == 3 for passages in before.values())


def test_vectors_written_by_others_are_seen_under_the_same_text(long: Collection) -> None:
    before, vector = by_id(long), long.handle.slots["dense"].vector
    point: Any = next(hit.point for hit in long.search(QUERY, limit=3) if hit.id == "d0")
    (record,) = long.client.retrieve(long.handle.name, [point], with_vectors=[vector])
    turned = record.vector[vector][::-1]  # type: ignore[index,call-overload]
    long.client.update_vectors(long.handle.name, [models.PointVectors(id=point, vector={vector: turned})])
    after = by_id(long)
    places = sorted({(own.start, own.end) for own in long.search(QUERY, limit=3, passages=10)[0].passages})
    assert [own.score for own in after["d0"]] == pytest.approx([own.score for own in before["d0"]])
    mirrored = [places[-1 - places.index((own.start, own.end))] for own in before["d0"]]
    assert [(own.start, own.end) for own in after["d0"]] == mirrored
    assert after["d1"] == before["d1"]


def test_a_document_rewritten_since_it_was_found_shows_no_passage_of_its_new_vectors(
    long: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, retrieve = long.handle.slots["dense"].vector, long.client.retrieve
    changed = [Document(own.id, own.text.replace("w1", "w2")) for own in documents()]  # as many passages as before

    def late(*given: Any, **options: Any) -> Any:
        if options.get("with_vectors") == [vectors]:
            monkeypatch.setattr(long.client, "retrieve", retrieve)
            long.populate(changed[:1])
        return retrieve(*given, **options)

    monkeypatch.setattr(long.client, "retrieve", late)
    shown = by_id(long)
    assert {name: bool(passages) for name, passages in shown.items()} == {"d0": False, "d1": True, "d2": True}
    again = {hit.id: hit for hit in long.search(QUERY, limit=3)}
    assert all(own.text in changed[0].text for own in again["d0"].passages)
    assert len(again["d0"].passages) == 3


def test_a_collection_that_is_made_anew_shows_its_own_passages(opened: Open) -> None:
    shown = []
    for text in ("w1 w2 w3.", "w4 w17 w6."):
        collection = opened({"slots": SLOTS, "collection": "anew"})
        collection.populate([Document("first", "x")])
        collection.populate([Document("d", text)])
        shown += [own.text for own in by_id(collection)["d"]]
        collection.client.delete_collection("anew")
    assert shown == ["w1 w2 w3.", "w4 w17 w6."]
