"""Passages as points beside their documents: the hits are those of multi-vectors, whatever else a search asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection, Document
from diptych.config.models import Config
from diptych.errors import SearchError
from diptych.search import Dbsf, Retrieve, candidates
from diptych.stores.passage_collections import collection_of, documents_collections
from diptych.stores.passage_points import PARENT
from diptych.types import Hit

from .conftest import Open

PASSAGES = {"tokens": 24, "overlap": 4}
QUERIES = ["w17 w23 w99", "w3", "w70 w71 w72 w73"]
EXACT = models.SearchParams(exact=True)


def slots(layout: str) -> dict[str, Any]:
    """A dense slot whose passages lie as `layout` says, and a sparse one."""
    return {
        "dense": {"adapter": "fake-dense", "passages": {**PASSAGES, "layout": layout}},
        "lexical": {"adapter": "fake-sparse"},
    }


def documents() -> list[Document]:
    """Eighty documents of 1 to 40 sentences; two thirds are of section `a`."""
    random = np.random.default_rng(5)
    made = []
    for n in range(80):
        sentences = [
            " ".join(f"w{word}" for word in random.integers(0, 120, 9)) + "." for _ in range(random.integers(1, 41))
        ]
        made.append(Document(f"d{n}", " ".join(sentences), "", {"section": "b" if n % 3 else "a", "n": n}))
    return made


@pytest.fixture(scope="module")
def both(opened: Open) -> tuple[Collection, Collection]:
    """The same documents in both layouts."""
    collections = opened({"slots": slots("multivector")}), opened({"slots": slots("points")})
    for collection in collections:
        collection.populate(documents())
    return collections


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are looked for in this small collection, too, also with a filter."""
    monkeypatch.setattr(candidates, "FEW", 5)
    monkeypatch.setattr(candidates, "SPARE", 2)


def told(hits: Sequence[Hit]) -> list[tuple[str, float, list[tuple[int, int]]]]:
    """What matters of hits."""
    return [(hit.id, round(hit.score, 4), [(own.start, own.end) for own in hit.passages]) for hit in hits]


WAYS: dict[str, dict[str, Any]] = {
    "alone": {"pipeline": "dense"},
    "page": {"pipeline": "dense", "offset": 7},
    "filter": {"pipeline": "dense", "where": {"section": "a"}},
    "few match": {"pipeline": "dense", "where": {"n": [3, 5, 70]}},
    "none match": {"pipeline": "dense", "where": {"section": "c"}},
    "fusion": {"pipeline": Retrieve("dense", 80) + Retrieve("lexical", 80) >> Dbsf()},
    "boost": {"pipeline": Retrieve("dense", 50), "boost": [{"kind": "field", "field": "section", "equals": "a"}]},
    "excluded": {"pipeline": "dense", "exclude": ["d1", "d2"]},
    "pinned": {"pipeline": "dense", "pin": ["d9"]},
    "exact": {"pipeline": "dense", "params": EXACT},
    "threshold": {"pipeline": "dense", "score_threshold": 0.35},
}


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_both_layouts_give_the_same_hits(both: tuple[Collection, Collection], way: str) -> None:
    for query in QUERIES:
        expected, found = (told(own.search(query, limit=12, **WAYS[way])) for own in both)
        assert found == expected
        assert expected or way == "none match"


def test_both_layouts_answer_batches_groups_vectors_and_explanations_alike(both: tuple[Collection, Collection]) -> None:
    multivector, points = both
    batches = [[told(hits) for hits in own.search_batch(QUERIES, pipeline="dense", limit=9)] for own in both]
    assert batches[0] == batches[1]
    grouped = [own.search_groups(QUERIES[0], group_by="section", group_size=4, pipeline="dense") for own in both]
    assert [[told(group.hits) for group in own] for own in grouped[:1]] == [
        [told(group.hits) for group in own] for own in grouped[1:]
    ]
    dense = Retrieve("dense")
    vector = multivector.encoders["dense"].encode_query([QUERIES[0]])[0]
    assert told(points.search_by_vector(vector, dense)) == told(multivector.search_by_vector(vector, dense))
    explained = [[own.slots["dense"] for own in c.explain(QUERIES[0], pipeline="dense", limit=5)] for c in both]
    assert [(own.rank, own.passages) for own in explained[0]] == [(own.rank, own.passages) for own in explained[1]]


def test_only_documents_are_counted_and_listed(both: tuple[Collection, Collection]) -> None:
    points = both[1]
    assert points.count() == 80
    beside = collection_of(points.name, "dense.1")
    assert points.client.count(beside).count > 200
    listed = documents_collections(points.client)
    assert points.name in listed
    assert beside not in listed


def test_more_passages_are_read_until_there_are_enough_documents(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opened({"slots": {"dense": slots("points")["dense"]}})
    same = " ".join(f"w1 w2 w{n} w{n}." for n in range(200))
    collection.populate([Document("long", same), *(Document(f"d{n}", f"w{n} w9 w{n}.") for n in range(30))])
    assert len(collection.search("w1 w2", limit=20)) == 20
    (reads,) = (value for key, value in collection.handle.view.kept.items() if key == "passages dense")
    assert reads > candidates.FIRST
    monkeypatch.setattr(candidates, "MOST", 50)  # then all documents are scored
    assert len({hit.id for hit in collection.search("w1 w2", limit=25)}) == 25


def test_passages_left_over_by_a_kill_are_never_shown(opened: Open) -> None:
    collection = opened({"slots": {"dense": slots("points")["dense"]}})
    collection.populate(documents()[:20])
    passages = collection.handle.slots["dense"]
    points = collection.client
    beside = collection_of(collection.name, passages.vector)
    query = "w500 w501 w502 w503"
    encoded: Any = passages.encode("query", [query])
    left = [
        models.PointStruct(
            id=n,
            vector={passages.vector: encoded[0][0].tolist()},
            payload={PARENT: parent, "text": "?", "place": 0, "of": 1},
        )
        for n, parent in enumerate([str(collection.search(query, limit=1)[0].point), "77"])
    ]
    expected = told(collection.search(query, limit=15))
    points.upsert(beside, left)
    assert told(collection.search(query, limit=15)) == expected
    changed = replace(documents()[0], text=query)
    collection.populate([changed])
    assert collection.search(query, limit=1)[0].id == "d0"


def test_a_collection_of_passages_that_is_gone_is_an_error_that_names_it(opened: Open) -> None:
    collection = opened({"slots": {"dense": slots("points")["dense"]}})
    collection.populate(documents()[:5])
    beside = collection_of(collection.name, "dense.1")
    collection.client.delete_collection(beside)
    with pytest.raises(SearchError, match="passages is gone") as raised:
        collection.search("w1")
    assert beside in str(raised.value)
    assert "doctor --repair" in str(raised.value)
    assert collection.populate([Document("new", "w900 w901.")]).new == 1  # makes it again, from the stored vectors
    assert len(collection.search("w1", limit=10)) == 6


@pytest.mark.parametrize(
    "sections",
    [
        {"cluster": {"shard_by": "section"}},
        {"cluster": {"shard_key": "a"}},
        {"tenant": {"field": "n", "shard_keys": True}},
    ],
)
def test_points_of_passages_have_no_shard_keys(sections: dict[str, Any]) -> None:
    raw = {"store": "http://x:6333", "collection": "c", "slots": slots("points"), **sections}
    with pytest.raises(ValueError, match=r"(?s)passages as points have no shard keys"):
        Config.model_validate(raw)
