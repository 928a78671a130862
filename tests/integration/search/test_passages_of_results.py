"""Every way to search gives the passages of its hits: groups, vectors, pinned documents, tenants, coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Hit
from diptych.errors import SearchError
from diptych.search import Retrieve
from long_documents import QUERY, SENTENCES, SLOTS, manuals

from .conftest import Open


@pytest.fixture(scope="module")
def long(opened: Open) -> Collection:
    collection = opened({"slots": SLOTS})
    collection.populate(manuals())
    return collection


def best(hits: Any) -> dict[str, str]:
    return {hit.id: hit.passages[0].text for hit in hits}


def shows_its_sentence(hit: Hit) -> bool:
    text = next(document.text for document in manuals() if document.id == hit.id)
    return SENTENCES[hit.id] in hit.passages[0].text and all(
        text[own.start : own.end] == own.text for own in hit.passages
    )


@pytest.mark.parametrize("options", [{}, {"pipeline": "dense"}, {"pin": ["mutt"]}, {"with_payload": ["section"]}])
def test_hits_of_groups_have_the_passages_that_a_search_shows(long: Collection, options: dict[str, Any]) -> None:
    hits = long.search(QUERY, limit=4, **options)
    groups = long.search_groups(QUERY, group_by="section", group_size=4, **options)
    assert best(hit for group in groups for hit in group.hits) == best(hits)
    assert all(shows_its_sentence(hit) for group in groups for hit in group.hits if hit.id in ("sox", "lame"))
    assert [hit.document for group in groups for hit in group.hits if hit.id == "sox"] == [
        hit.document for hit in hits if hit.id == "sox"
    ]
    bare = long.search_groups(QUERY, group_by="section", passages=0, **options)
    assert not any(hit.passages for group in bare for hit in group.hits)


def test_a_vector_of_the_slot_finds_the_same_passages_as_the_text(long: Collection) -> None:
    vector = np.asarray(long.encoders["dense"].encode_query([QUERY])[0])
    expected = long.search(QUERY, pipeline="dense", passages=2)
    for given in (vector, vector[0]):
        found = long.search_by_vector(given, Retrieve("dense"), passages=2)
        assert _passages(found) == _passages(expected)
        scores, wanted = ([p.score for hit in hits for p in hit.passages] for hits in (found, expected))
        assert scores == pytest.approx(wanted, abs=1e-6)
    assert not any(hit.passages for hit in long.search_by_vector(vector[0], Retrieve("dense"), passages=0))
    with pytest.raises(SearchError, match="does not fit the slot"):
        long.search_by_vector([*vector, *vector], Retrieve("dense"))


def _passages(hits: list[Hit]) -> list[tuple[str, list[tuple[int, int, str]]]]:
    return [(hit.id, [(passage.start, passage.end, passage.text) for passage in hit.passages]) for hit in hits]


def test_tenants_see_passages_of_their_own_documents(opened: Open) -> None:
    collection = opened({"slots": SLOTS, "tenant": {"field": "owner"}})
    for tenant, ids in (("a", ("sox", "gimp")), ("b", ("lame", "mutt"))):
        collection.populate([document for document in manuals() if document.id in ids], tenant=tenant)
        own = collection.for_tenant(tenant)
        hits = own.search(QUERY)
        assert {hit.id for hit in hits} == set(ids)
        assert all(shows_its_sentence(hit) for hit in hits if hit.id in ("sox", "lame"))
        assert best(asyncio.run(own.asearch(QUERY))) == best(hits)
        (explained,) = own.explain(QUERY, limit=1)
        assert explained.slots["dense"].passage is not None
        assert explained.slots["dense"].passage.text == hits[0].passages[0].text
