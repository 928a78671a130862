"""Searches of the vector store: by text and vector, scores and relevance, and what lambda means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from qdrant_client import models

import long_documents
from diptych.errors import SearchError
from diptych.search import Retrieve
from diptych.testing import FakeDenseEncoder
from diptych_adapters.langchain import DiptychRetriever, DiptychVectorStore

BOTH = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
TEXTS = [
    "convert audio files",
    "convert audio files quickly",
    "convert many audio files",
    "play audio",
    "convert images",
    "read mail",
    "scan a network",
]
QUERY = "convert audio files"
ODD = models.Filter(must=[models.FieldCondition(key="odd", match=models.MatchValue(value=True))])


def filled(opened: Any, slots: Any = BOTH, **options: Any) -> DiptychVectorStore:
    store = DiptychVectorStore(opened(slots), **options)
    store.add_texts(
        TEXTS, [{"odd": bool(n % 2), "n": n} for n in range(len(TEXTS))], ids=[str(n) for n in range(len(TEXTS))]
    )
    return store


def numbers(found: list[Document]) -> list[int]:
    return [int(document.id or "") for document in found]


@pytest.fixture
def store(opened: Any) -> DiptychVectorStore:
    return filled(opened)


def test_a_text_goes_through_the_collections_pipeline(store: DiptychVectorStore) -> None:
    found = store.similarity_search_with_score(QUERY, k=3)
    hits = store.collection.search(QUERY, limit=3)
    assert [d.id for d, _ in found] == [hit.id for hit in hits]
    assert [score for _, score in found] == pytest.approx([hit.score for hit in hits], abs=1e-6)
    assert numbers(store.similarity_search(QUERY)) == [int(hit.id) for hit in store.collection.search(QUERY, limit=4)]
    assert numbers(store.similarity_search(QUERY, k=2, filter=ODD, pipeline=Retrieve("dense"))) == [1, 3]
    assert store.similarity_search(QUERY, score_threshold=10.0) == []
    with pytest.raises(TypeError, match="unexpected keyword argument 'fliter'"):
        store.similarity_search(QUERY, fliter=ODD)  # type: ignore[call-arg]


def test_a_vector_asks_the_dense_slot(store: DiptychVectorStore) -> None:
    assert store.embeddings is not None
    vector = store.embeddings.embed_query(QUERY)
    expected = store.similarity_search_with_score(QUERY, k=3, pipeline=Retrieve("dense"))
    found = store.similarity_search_with_score_by_vector(vector, k=3)
    assert [d for d, _ in found] == [d for d, _ in expected] == store.similarity_search_by_vector(vector, k=3)
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert numbers(store.similarity_search_by_vector(vector, k=2, filter=ODD)) == [1, 3]
    with pytest.raises(SearchError, match=r"(?s)vector does not fit the slot.*got: \[3\].*expected: \[64\]"):
        store.similarity_search_by_vector([1.0, 2.0, 3.0])


async def test_coroutines_find_the_same(store: DiptychVectorStore) -> None:
    assert store.embeddings is not None
    vector = store.embeddings.embed_query(QUERY)
    assert await store.asimilarity_search(QUERY, k=3) == store.similarity_search(QUERY, k=3)
    assert await store.asimilarity_search_with_score(QUERY, k=3) == store.similarity_search_with_score(QUERY, k=3)
    assert await store.asimilarity_search_by_vector(vector) == store.similarity_search_by_vector(vector)
    assert await store.amax_marginal_relevance_search(QUERY) == store.max_marginal_relevance_search(QUERY)
    relevant = await store.asimilarity_search_with_relevance_scores(QUERY, k=2)
    assert relevant == store.similarity_search_with_relevance_scores(QUERY, k=2)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_relevance_is_one_for_the_same_and_falls_with_the_score(opened: Any, similarity: str) -> None:
    store = filled(
        opened, {"lexical": {"adapter": "fake-sparse"}, "near": {"adapter": "fake-dense", "similarity": similarity}}
    )
    found = store.similarity_search_with_relevance_scores(QUERY, k=7)
    scored = store.similarity_search_with_score(QUERY, k=7, pipeline=Retrieve("near"))
    assert [d for d, _ in found] == [d for d, _ in scored]
    scores = [score for _, score in found]
    assert scores[0] == pytest.approx(1.0, abs=1e-3)
    assert sorted(scores, reverse=True) == scores
    assert scores[-1] >= 0.0
    given = [(1 + score) / 2 if similarity == "cosine" else 1 / (1 - score) for _, score in scored]
    assert scores == pytest.approx(given, abs=1e-3)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": scores[2]}
    )
    assert [document.id for document in retriever.invoke(QUERY)] == [document.id for document, _ in found[:3]]


def test_scores_without_bounds_have_no_relevance(opened: Any) -> None:
    dot = filled(opened, {"dense": {"adapter": "fake-dense", "similarity": "dot"}})
    with pytest.raises(SearchError, match=r"(?s)cannot be scaled to between 0 and 1.*got: dot"):
        dot.similarity_search_with_relevance_scores(QUERY)


@pytest.mark.parametrize("weight", [1.0, 0.7, 0.5, 0.2])
def test_lambda_means_what_langchain_says(store: DiptychVectorStore, weight: float) -> None:
    assert store.embeddings is not None
    query = "files of audio that I convert"  # of a text itself, lambda 0.5 would tell nothing apart
    vector, rows = store.embeddings.embed_query(query), store.embeddings.embed_documents(TEXTS)
    best = np.argsort(-(np.array(rows) @ np.array(vector)), kind="stable")[:6]
    chosen = maximal_marginal_relevance(np.array(vector), [rows[n] for n in best], lambda_mult=weight, k=4)
    expected = [int(best[place]) for place in chosen]
    assert numbers(store.max_marginal_relevance_search(query, k=4, fetch_k=6, lambda_mult=weight)) == expected
    by_vector = store.max_marginal_relevance_search_by_vector(vector, k=4, fetch_k=6, lambda_mult=weight)
    assert numbers(by_vector) == expected


def test_a_plain_mapping_as_filter_is_the_short_form(store: DiptychVectorStore) -> None:
    odd: dict[str, Any] = {"odd": True}
    vector = FakeDenseEncoder().encode_query([QUERY])[0].tolist()
    assert numbers(store.similarity_search(QUERY, k=2, filter=odd, pipeline=Retrieve("dense"))) == [1, 3]
    assert numbers(store.similarity_search_by_vector(vector, k=2, filter=odd)) == [1, 3]
    assert numbers(store.similarity_search(QUERY, filter=odd, where={"n": {"gte": 5}})) == [5]
    assert numbers(store.similarity_search(QUERY, filter={"must": [{"key": "n", "match": {"value": 4}}]})) == [4]
    retriever = DiptychRetriever(collection=store.collection, filter=odd)
    assert set(numbers(retriever.invoke(QUERY))) == {1, 3, 5}
    assert numbers(store.as_retriever(search_kwargs={"filter": {"n": 2}}).invoke(QUERY)) == [2]


def test_mmr_of_more_than_is_fetched_fetches_more_and_filters(store: DiptychVectorStore) -> None:
    assert len(store.max_marginal_relevance_search(QUERY, k=5, fetch_k=2)) == 5
    assert set(numbers(store.max_marginal_relevance_search(QUERY, filter=ODD))) == {1, 3, 5}
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 6, "lambda_mult": 1.0})
    assert numbers(retriever.invoke(QUERY)) == numbers(store.similarity_search(QUERY, 2, pipeline=Retrieve("dense")))


def test_the_dense_slot_can_be_named(opened: Any) -> None:
    slots = {**BOTH, "small": {"adapter": "fake-dense", "dimension": 8}}
    store = filled(opened, slots, slot="small")
    assert store.embeddings is not None
    assert len(store.embeddings.embed_query(QUERY)) == 8
    assert len(store.similarity_search_by_vector([0.5] * 8, k=2)) == 2
    with pytest.raises(SearchError, match=r"(?s)needs a dense slot.*got: 'big'.*expected: dense, small"):
        DiptychVectorStore(store.collection, slot="big")


def test_without_a_dense_slot_texts_are_found_and_the_rest_is_refused(opened: Any) -> None:
    store = filled(opened, {"lexical": {"adapter": "fake-sparse"}})
    assert store.embeddings is None
    assert len(store.as_retriever().invoke(QUERY)) == 4
    for search in (store.max_marginal_relevance_search, store.similarity_search_with_relevance_scores):
        with pytest.raises(SearchError, match=r"(?s)needs a dense slot.*expected: a collection with a dense slot"):
            search(QUERY)


def test_an_empty_store_finds_nothing(opened: Any) -> None:
    store = DiptychVectorStore(opened(BOTH))
    assert store.similarity_search(QUERY) == store.max_marginal_relevance_search(QUERY) == []
    assert store.similarity_search_by_vector([0.0] * 64) == []
    assert store.similarity_search_with_relevance_scores(QUERY) == []


def test_vectors_and_relevance_work_with_a_vector_for_each_passage(opened: Any) -> None:
    long = opened(long_documents.SLOTS)
    long.populate(long_documents.manuals())
    store, query = DiptychVectorStore(long), long_documents.QUERY
    vector = np.asarray(long.encoders["dense"].encode_query([query])[0])
    (document,) = store.similarity_search_by_vector(vector[0].tolist(), 1)
    assert document.id == "sox"
    assert document.metadata["_diptych"]["passages"]
    ((best, relevance),) = store.similarity_search_with_relevance_scores(query, 1)
    (hit,) = long.search(query, pipeline=Retrieve("dense"), limit=1)
    assert best.id == hit.id
    assert relevance == pytest.approx((1 + hit.score) / 2, abs=1e-6)
    assert store.embeddings is None
