"""A collection as LangChain's retriever: the same hits as `Collection.search`, with scores and reasons."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError
from qdrant_client import models

from diptych import Collection, Query
from diptych.errors import CollectionNotFound, SearchError
from diptych.search import FieldBoost, Rerank, Retrieve, Rrf
from diptych.testing import FakeReranker
from diptych_adapters.langchain import DiptychCompressor, DiptychRetriever, DiptychVectorStore

BOTH = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "sox", "text": "convert audio files", "title": "Sox", "metadata": {"section": "sound"}},
    {"id": "lame", "text": "encode audio files as mp3", "metadata": {"section": "sound"}},
    {"id": "gimp", "text": "convert images", "metadata": {"section": "graphics"}},
    {"id": "mutt", "text": "read mail", "metadata": {"section": "mail"}},
]
QUERY = "convert audio"
SOUND = models.Filter(must=[models.FieldCondition(key="section", match=models.MatchValue(value="sound"))])


@pytest.fixture
def packages(opened: Any) -> Collection:
    # By ranks: local mode computes the last digits of scores otherwise from call to call.
    collection: Collection = opened(BOTH, search={"fuse": {"kind": "rrf"}})
    collection.populate(DOCUMENTS)
    return collection


def test_it_finds_what_the_collection_finds(packages: Collection) -> None:
    found = DiptychRetriever(collection=packages).invoke(QUERY)
    hits = packages.search(QUERY)
    assert [(d.id, d.metadata["_score"], d.metadata["_stages"]) for d in found] == [
        (hit.id, hit.score, dict(hit.stages)) for hit in hits
    ]
    first = {key: value for key, value in found[0].metadata.items() if not key.startswith("_")}
    assert (found[0].page_content, first) == ("convert audio files", {"title": "Sox", "section": "sound"})


def test_what_a_search_adds_is_not_stored_with_a_document_that_is_added_again(packages: Collection) -> None:
    own = {"_score": 7, "relevance_score": "high", "section": "sound"}
    packages.populate([{"id": "own", "text": "convert audio tapes", "metadata": own}])
    before = {document.id: document for document in packages.documents()}
    found = DiptychRetriever(collection=packages, explain=True).invoke(QUERY)
    ranked = DiptychCompressor(reranker=FakeReranker()).compress_documents(found, QUERY)
    ranked = DiptychCompressor(reranker=FakeReranker()).compress_documents(ranked, "mail")  # hides its own score
    assert {"_score", "_stages", "_explanation", "relevance_score"} <= set(ranked[0].metadata)
    again = [Document.model_validate_json(document.model_dump_json()) for document in ranked]
    for document in again:
        document.metadata["read"] = True
    DiptychVectorStore(packages).add_documents(again)
    after = {document.id: document for document in packages.documents()}
    assert {name: {**old.metadata, "read": True} for name, old in before.items()} == {
        name: dict(new.metadata) for name, new in after.items()
    }
    assert DiptychRetriever(collection=packages, limit=9).invoke("tapes")[0].metadata["_score"] != 7


def _ranked(collection: Collection, **own: Any) -> Document:
    """The document "own" with this metadata, after retriever and compressor."""
    collection.populate([{"id": "own", "text": "convert audio tapes", "metadata": own}])
    found = DiptychRetriever(collection=collection, limit=9).invoke("tapes")
    (document,) = [document for document in found if document.id == "own"]
    return _compressed(document)


def _compressed(document: Document) -> Document:
    (ranked,) = DiptychCompressor(reranker=FakeReranker()).compress_documents([document], QUERY)
    return Document.model_validate_json(ranked.model_dump_json())


def _stored_again(collection: Collection, document: Document) -> dict[str, Any]:
    DiptychVectorStore(collection).add_documents([document])
    return dict(collection.get(["own"])[0].metadata)


def test_a_documents_own_none_survives_a_search(packages: Collection) -> None:
    own = {"a": 1, "relevance_score": None, "_score": None}
    ranked = _ranked(packages, **own)
    assert ranked.metadata["relevance_score"] is not None
    assert ranked.metadata["_score"] is not None
    assert _stored_again(packages, ranked) == own


def test_only_the_retrievers_documents_are_added_again_without_the_rerankers_score(packages: Collection) -> None:
    """Documents without `_diptych` get no key but the score, as docs/langchain.md says: they may be another store's."""
    from_store = _compressed(DiptychVectorStore(packages).similarity_search("convert images", k=1)[0])
    assert from_store.metadata.keys() == {"section", "relevance_score"}
    from_retriever = _compressed(DiptychRetriever(collection=packages, limit=1).invoke("read mail")[0])
    DiptychVectorStore(packages).add_documents([from_store, from_retriever])
    gimp, mutt = packages.get(["gimp", "mutt"])
    assert gimp.metadata == from_store.metadata
    assert mutt.metadata == {"section": "mail"}


def test_filter_limit_and_pipeline_are_set_once_or_by_the_call(packages: Collection) -> None:
    retriever = DiptychRetriever(collection=packages, limit=1, filter=SOUND, pipeline=Retrieve("lexical"))
    assert [document.id for document in retriever.invoke("convert audio images")] == ["sox"]
    assert [document.id for document in retriever.invoke("convert audio images", filter=None, limit=3)] == [
        hit.id for hit in packages.search("convert audio images", pipeline=Retrieve("lexical"), limit=3)
    ]
    assert list(retriever.invoke(QUERY)[0].metadata["_stages"]) == ["lexical"]
    assert [document.id for document in retriever.invoke(QUERY, offset=1)] == ["lame"]
    assert retriever.invoke(QUERY, score_threshold=99.0) == []


def test_boosts_examples_pins_and_exclusions_reach_the_collection(packages: Collection) -> None:
    options: dict[str, Any] = {"boost": [FieldBoost("section", "mail")], "pin": ["gimp"], "exclude": ["sox"]}
    examples: dict[str, Any] = {"like": ["mutt"], "unlike": [Query("audio")]}
    expected = [hit.id for hit in packages.search(QUERY, **options, **examples)]
    assert expected[0] == "gimp"
    retriever = DiptychRetriever(collection=packages, **options, explain=True)
    found = retriever.invoke(QUERY, **examples)
    assert [document.id for document in found] == expected
    assert found[0].metadata["_explanation"]["notes"][-1] == "pinned"
    store = DiptychVectorStore(packages)
    assert [document.id for document in store.similarity_search(QUERY, **options, **examples)] == expected


def test_every_stage_shows_its_score(packages: Collection) -> None:
    pipeline = Retrieve("dense", 4) + Retrieve("lexical", 4) >> Rrf() >> Rerank(FakeReranker(), 3)
    (first, *_) = DiptychRetriever(collection=packages, pipeline=pipeline).invoke(QUERY)
    assert list(first.metadata["_stages"]) == ["rrf", "FakeReranker"]
    assert first.metadata["_score"] == first.metadata["_stages"]["FakeReranker"]


def test_a_document_says_why_it_was_found(packages: Collection) -> None:
    found = DiptychRetriever(collection=packages, explain=True, limit=2, filter=SOUND).invoke(QUERY)
    reasons = [document.metadata["_explanation"] for document in found]
    assert json.loads(json.dumps(reasons)) == reasons
    assert [reason["rank"] for reason in reasons] == [1, 2]
    parts = [slot["contribution"] for slot in reasons[0]["slots"].values()]
    assert sum(parts) == pytest.approx(found[0].metadata["_score"], abs=1e-5)
    assert {term["word"] for term in reasons[0]["slots"]["lexical"]["terms"]} == {"convert", "audio"}
    assert DiptychRetriever(collection=packages).invoke("audio", explain=True, score_threshold=99.0) == []


def test_the_short_form_of_a_filter_is_set_once_or_by_the_call_and_holds_for_the_reasons(packages: Collection) -> None:
    where = {"section": "sound"}
    retriever = DiptychRetriever(collection=packages, explain=True, limit=3)
    once = DiptychRetriever(collection=packages, explain=True, limit=3, where=where)
    for found in (once.invoke("convert images"), retriever.invoke("convert images", where=where)):
        assert [document.id for document in found] == ["sox", "lame"]
        assert [document.metadata["_explanation"]["rank"] for document in found] == [1, 2]


async def test_coroutines_find_the_same(packages: Collection) -> None:
    retriever = DiptychRetriever(collection=packages, explain=True, limit=2)
    queries = ["convert audio", "read mail", "convert images"]
    answers = await asyncio.gather(*(retriever.ainvoke(query) for query in queries))
    assert answers == [retriever.invoke(query) for query in queries]
    assert await retriever.ainvoke(QUERY, explain=False) == DiptychRetriever(collection=packages, limit=2).invoke(QUERY)
    assert await retriever.abatch(queries) == answers


def test_it_stands_in_a_chain(packages: Collection) -> None:
    chain = DiptychRetriever(collection=packages, limit=1) | (lambda documents: documents[0].page_content)
    assert chain.invoke("read mail") == "read mail"
    assert chain.batch(["read mail", "images"]) == ["read mail", "convert images"]


def test_what_it_cannot_do_is_said(packages: Collection, opened: Any) -> None:
    with pytest.raises(ValidationError, match=r"(?s)limt.*Extra inputs are not permitted"):
        DiptychRetriever(collection=packages, limt=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'k'"):
        DiptychRetriever(collection=packages).invoke(QUERY, k=3)
    with pytest.raises(SearchError, match="names slot 'late', which the collection does not have"):
        DiptychRetriever(collection=packages, pipeline=Retrieve("late")).invoke(QUERY)
    with pytest.raises(CollectionNotFound):
        DiptychRetriever(collection=opened(BOTH)).invoke(QUERY)
