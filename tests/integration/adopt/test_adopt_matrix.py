"""Every kind of foreign collection, in every store: adopted, searched as before, populated, explained, and swapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Document, Registry
from diptych.adopt import AdoptReport, adopt
from diptych.collection.collection import Collection
from diptych.errors import FingerprintMismatch
from diptych.search import Retrieve, Rrf
from diptych.stores.versions import is_server_client
from diptych.testing import FakeDenseEncoder
from named_server import is_cluster, require_vector_names

QUERY = "word3 word10 word21"
OTHERWISE = "stores may order equal scores, or fuse shards, in another way"


Point = tuple[dict[str, Any], dict[str, Any]]


def contents(client: QdrantBase) -> dict[Any, Point]:
    """Payload and vectors of each point, as arrays by name."""
    found, _ = client.scroll("c", limit=1000, with_payload=True, with_vectors=True)
    return {point.id: (point.payload or {}, vectors(point.vector)) for point in found}


def vectors(raw: Any) -> dict[str, Any]:
    named = raw if isinstance(raw, dict) else {"": raw}
    return {
        name: np.array(sorted(zip(own.indices, own.values, strict=True)))
        if isinstance(own, models.SparseVector)
        else np.array(own)
        for name, own in named.items()
    }


def changed(before: dict[Any, Point], after: dict[Any, Point]) -> set[Any]:
    """Points that are other than before; local mode's numbers jitter behind the sixth digit."""

    def same(one: Point, two: Point) -> bool:
        if one[0] != two[0] or one[1].keys() != two[1].keys():
            return False
        return all(one[1][name].shape == two[1][name].shape for name in one[1]) and all(
            np.allclose(one[1][name], two[1][name], atol=1e-5) for name in one[1]
        )

    return {
        point
        for point in before.keys() | after.keys()
        if point not in before or point not in after or not same(before[point], after[point])
    }


def raw_answer(client: QdrantBase, vector: str, limit: int = 10) -> list[tuple[str, float]]:
    """What the framework itself would find: point ids and scores."""
    query = FakeDenseEncoder(dimension=24).encode_query([QUERY])[0].tolist()
    found = client.query_points("c", query=query, using=vector or None, limit=limit).points
    return [(str(point.id), point.score) for point in found]


@pytest.fixture
def adopted(filled: QdrantBase, foreign: Any, registry: Registry) -> Collection:
    return Collection.adopt(foreign.config(), store=filled, registry=registry)


def test_adoption_finds_layout_and_vectors_and_writes_nothing_but_metadata(
    filled: QdrantBase, foreign: Any, registry: Registry
) -> None:
    before = contents(filled)
    report = adopt(filled, "c", foreign.config(), registry=registry)
    assert changed(before, contents(filled)) == set()
    assert isinstance(report, AdoptReport)
    assert (report.points, report.warnings, report.layout.origin) == (80, (), foreign.origin)
    assert {slot.name: slot.vector for slot in report.slots} == {
        "dense": foreign.dense,
        **({"lexical": foreign.sparse} if foreign.sparse else {}),
    }
    assert all(slot.sampled == 64 and slot.lowest > 0.999 for slot in report.slots)


def test_search_finds_the_same_points_with_the_same_scores_as_before(
    filled: QdrantBase, foreign: Any, registry: Registry, texts: list[Any]
) -> None:
    before = raw_answer(filled, foreign.dense)
    collection = Collection.adopt(foreign.config(), store=filled, registry=registry)
    names = {str(foreign.point(text)[0]): foreign.document_id(text) for text in texts}
    hits = collection.search(QUERY, limit=10, pipeline=Retrieve("dense"))
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in before], abs=1e-5)
    assert {hit.id for hit in hits[:8]} == {names[point] for point, _ in before[:8]}


def test_hits_bring_their_documents(adopted: Collection, foreign: Any, texts: list[Any]) -> None:
    by_id = {foreign.document_id(text): text for text in texts}
    for hit in adopted.search(QUERY, limit=5):
        assert hit.document.text == by_id[hit.id].text
    (hit,) = adopted.search(QUERY, limit=1, with_payload=["text"])
    assert hit.document == Document(hit.id, by_id[hit.id].text)
    (hit,) = adopted.search(QUERY, limit=1, with_payload=False)
    assert hit.document == Document(hit.id, "")


@pytest.mark.parametrize("wrong", [{"seed": 7}, {"document_prompt": "please note"}], ids=["model", "prompt"])
def test_a_wrong_encoder_is_refused_with_the_cosine_and_nothing_is_written(
    filled: QdrantBase, foreign: Any, registry: Registry, wrong: dict[str, Any]
) -> None:
    with pytest.raises(FingerprintMismatch, match=r"the encoder did not make these vectors \(cosine -?0\.\d{4}\)"):
        adopt(filled, "c", foreign.config(**wrong), registry=registry)
    assert filled.get_collection("c").config.metadata is None
    adopt(filled, "c", foreign.config(), registry=registry)


def test_it_opens_by_name_and_by_the_config_that_adopted_it(
    adopted: Collection, filled: QdrantBase, foreign: Any, registry: Registry
) -> None:
    hits = adopted.search(QUERY, limit=3)
    opened = Collection.open(filled, "c", registry=registry)
    assert [hit.document for hit in opened.search(QUERY, limit=3)] == [hit.document for hit in hits]
    (event,) = adopted.handle.read().history
    assert (event.what, event.slots["dense"]) == ("adopted", "fake-dense, generation 1")


def test_explanations_name_documents_and_add_up(adopted: Collection, foreign: Any, texts: list[Any]) -> None:
    slots = list(adopted.handle.slots)
    pipeline = sum((Retrieve(slot) for slot in slots[1:]), Retrieve(slots[0])) >> Rrf() if len(slots) > 1 else None
    wanted = [foreign.document_id(text) for text in texts[5:8]]
    found = adopted.explain(QUERY, ids=wanted, pipeline=pipeline)
    assert [explanation.document.id for explanation in found] == wanted
    assert [explanation.document.text for explanation in found] == [text.text for text in texts[5:8]]
    for explanation in found:
        parts = [part.contribution for part in explanation.slots.values() if part.contribution is not None]
        if is_cluster() and explanation.notes:  # its replicas may order equal scores differently
            assert explanation.notes == (f"the parts sum to {sum(parts):.4g}: {OTHERWISE}",)
        else:
            assert explanation.fused is None or explanation.fused == pytest.approx(sum(parts), abs=1e-4)


def test_populate_leaves_alone_what_the_collection_has(adopted: Collection, filled: QdrantBase) -> None:
    before = contents(filled)
    documents = [hit.document for hit in adopted.search(QUERY, limit=20)]
    report = adopted.populate(documents)
    assert (report.unchanged, report.new, report.changed, report.set_aside) == (20, 0, 0, 0)
    assert changed(before, contents(filled)) == set()


def test_populate_updates_a_point_in_place_and_in_its_layout(
    adopted: Collection, filled: QdrantBase, foreign: Any, texts: list[Any]
) -> None:
    before = contents(filled)
    point, payload, _ = foreign.point(texts[11])
    document = next(hit.document for hit in adopted.search(texts[11].text) if hit.document.text == texts[11].text)
    edited = Document(document.id, "wholly other words here", document.title, document.metadata)
    report = adopted.populate([edited])
    assert (report.changed, report.new, report.set_aside) == (1, 0, 0)
    after = contents(filled)
    assert changed(before, after) == {point}
    assert after[point][0].keys() == payload.keys()
    (hit,) = adopted.search("wholly other words here", limit=1, pipeline=Retrieve("dense"))
    assert (hit.id, hit.document.text, hit.document.metadata) == (document.id, edited.text, document.metadata)
    assert hit.score == pytest.approx(1.0, abs=1e-4) or document.title


def test_new_documents_come_in_once_and_are_found(adopted: Collection, filled: QdrantBase) -> None:
    new = [Document(f"new-{n}", f"brand new words {n} alpha{n}", metadata={"section": "new"}) for n in range(5)]
    assert adopted.populate(new).new == 5
    again = adopted.populate(new)
    assert (again.unchanged, again.new, again.changed) == (5, 0, 0)
    assert filled.count("c").count == 85
    (hit,) = adopted.search("brand new words 3 alpha3", limit=1)
    assert (hit.id, hit.document.text) == ("new-3", new[3].text)


def test_sync_deletes_what_the_source_has_no_more_and_nothing_else(
    adopted: Collection, filled: QdrantBase, foreign: Any, texts: list[Any]
) -> None:
    kept = [hit.document for hit in adopted.search(QUERY, limit=30)]
    report = adopted.populate(kept, sync=True, max_deleted=1)
    assert (report.unchanged, report.deleted) == (30, 50)
    assert filled.count("c").count == 30


def test_an_adopted_collection_can_be_swapped_and_rolled_back(
    adopted: Collection, filled: QdrantBase, foreign: Any, texts: list[Any]
) -> None:
    require_vector_names(filled)
    before = adopted.search(QUERY, limit=10, pipeline=Retrieve("dense"))
    adopted.apply(foreign.config(seed=9))
    after = adopted.search(QUERY, limit=10, pipeline=Retrieve("dense"))
    encoder = FakeDenseEncoder(dimension=24, seed=9)
    (query,) = encoder.encode_query([QUERY])
    scores = encoder.encode_document([foreign.point(text)[2] for text in texts]) @ query
    assert [hit.score for hit in after] == pytest.approx(sorted(scores, reverse=True)[:10], abs=1e-4)
    adopted.rollback()
    assert [hit.score for hit in adopted.search(QUERY, limit=10, pipeline=Retrieve("dense"))] == pytest.approx(
        [hit.score for hit in before], abs=1e-5
    )
    assert raw_answer(filled, foreign.dense)


def test_the_unnamed_vector_can_be_finished_off(
    client: QdrantBase, ways: Mapping[str, Any], texts: list[Any], registry: Registry
) -> None:
    require_vector_names(client)
    way = ways["langchain-hybrid"]
    way.create(client)
    way.write(client, texts)
    collection = Collection.adopt(way.config(), store=client, registry=registry)
    collection.apply(way.config(seed=9))
    collection.populate([Document("during", "words that were written while both vectors were kept")])
    drops = not is_server_client(client)  # servers have no route for a name that is empty
    assert collection.finish().dropped == (("",) if drops else ())
    collection.populate([Document("after", "words that were written when one was gone")])
    left = set(vectors(client.scroll("c", limit=1, with_vectors=True)[0][0].vector))
    assert left - {""} == {"dense.2", "langchain-sparse"}
    assert ("" in left) != drops
    for name in ("during", "after"):
        (hit,) = collection.explain("words that were written", ids=[name])
        assert hit.slots["dense"].score is not None
    assert client.count("c").count == len(texts) + 2
