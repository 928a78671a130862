"""How rare a word is counts among the tenant's own documents, where the store can count so."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from diptych import Registry
from diptych.search import Retrieve
from diptych.stores.versions import is_local
from diptych.testing import fakes_plugin
from diptych_adapters import hooks
from named_server import require_feature

from .conftest import SLOTS, Open

OWN = [
    {"id": "1", "text": "red green", "customer": "a"},
    {"id": "2", "text": "green blue blue", "customer": "a"},
    {"id": "3", "text": "blue", "customer": "a"},
]
OTHERS = [{"id": str(n), "text": "red red red grey grey", "customer": "b"} for n in range(9)]
BUILTIN = Registry(fakes_plugin, hooks, installed=False)
WORDS = {"adapter": "qdrant-text-index", "language": "none"}


def scores(collection: Any, slot: str) -> dict[str, float]:
    hits = collection.search("red blue", tenant="a", pipeline=Retrieve(slot))
    return {hit.id: round(hit.score, 5) for hit in hits}


@pytest.mark.parametrize("slot", ["lexical", "words"])
def test_anothers_documents_do_not_change_a_tenants_scores(opened: Open, slot: str) -> None:
    collection = opened(BUILTIN, slots={"lexical": SLOTS["lexical"], "words": WORDS})
    if slot == "words" and is_local(collection.client):
        pytest.skip("local mode knows no tenant's statistics for text indexes")
    require_feature(collection.client, "text_index" if slot == "words" else "sparse")
    collection.populate(OWN)
    alone = scores(collection, slot)
    assert len(alone) == 3
    collection.populate(OTHERS)
    assert scores(collection, slot) == alone


def test_where_the_store_cannot_count_so_it_counts_over_all(opened: Open) -> None:
    collection = opened(BUILTIN, slots={"words": WORDS})
    if not is_local(collection.client):
        pytest.skip("Qdrant Edge can")
    collection.populate(OWN)
    alone = scores(collection, "words")
    collection.populate(OTHERS)
    assert scores(collection, "words").keys() == alone.keys()
    assert scores(collection, "words") != alone


def test_the_words_of_an_explanation_add_up_to_the_score_by_the_tenants_statistics(opened: Open) -> None:
    collection = opened(slots={"lexical": SLOTS["lexical"]})
    collection.populate([*OWN, *OTHERS])
    for explanation in collection.explain("red blue", tenant="a"):
        own = explanation.slots["lexical"]
        assert own.score == pytest.approx(explanation.score)
        assert sum(term.contribution for term in own.terms) == pytest.approx(own.score)


def test_a_callers_corpus_is_looked_for_within_the_tenants(opened: Open) -> None:
    collection = opened(slots={"lexical": SLOTS["lexical"]})
    collection.populate([*OWN, *OTHERS])
    everyone = models.SearchParams(idf=models.IdfCorpusParams(corpus=models.Filter(must=[])))
    asked = [
        collection.search("red blue", tenant="a", pipeline=Retrieve("lexical"), params=params)
        for params in (None, everyone, models.SearchParams(idf=models.IdfScope.GLOBAL))
    ]
    assert asked[0] == asked[1] == asked[2]


def test_a_vector_without_idf_is_searched_as_ever(opened: Open) -> None:
    collection = opened(slots={"lexical": {"adapter": "fake-sparse", "uses_idf": False}})
    collection.populate([*OWN, *OTHERS])
    assert scores(collection, "lexical").keys() == {"1", "2", "3"}
