"""Passages through LangChain: in the metadata of a document, or as its content."""

from __future__ import annotations

import numpy as np
import pytest

from diptych import Collection
from diptych.errors import DocumentError
from diptych.search import Retrieve
from diptych_adapters.frameworks import Content
from diptych_adapters.langchain import DiptychRetriever, DiptychVectorStore
from long_documents import QUERY, SENTENCES, SLOTS, manuals

from .conftest import Open


@pytest.fixture(params=["memory:", "edge:./qdrant"])
def long(opened: Open, request: pytest.FixtureRequest) -> Collection:
    collection = opened(SLOTS, request.param)
    collection.populate(manuals())
    return collection


def test_a_documents_metadata_hold_its_passages(long: Collection) -> None:
    hits = long.search(QUERY, limit=2)
    for documents in (
        DiptychVectorStore(long).similarity_search(QUERY, 2),
        DiptychRetriever(collection=long, limit=2).invoke(QUERY),
    ):
        for document, hit in zip(documents, hits, strict=True):
            assert document.page_content == hit.document.text
            passages = document.metadata["_diptych"]["passages"]
            assert [(own["start"], own["end"]) for own in passages] == [(own.start, own.end) for own in hit.passages]
            assert all(own["text"] == document.page_content[own["start"] : own["end"]] for own in passages)


def test_a_document_that_was_found_can_be_added_again_and_changes_nothing(long: Collection) -> None:
    store = DiptychVectorStore(long)
    before = long.get(["sox", "lame"])
    store.add_documents(store.similarity_search(QUERY, 4))
    assert long.get(["sox", "lame"]) == before
    assert all("_diptych" not in document.metadata for document in store.get_by_ids(["sox"]))


async def test_the_best_passage_alone_is_the_content_where_that_is_wanted(long: Collection) -> None:
    (hit,) = long.search(QUERY, limit=1, passages=1)
    store = DiptychVectorStore(long, content="passage")
    retriever = DiptychRetriever(collection=long, limit=1, content="passage", passages=1)
    whole = DiptychVectorStore(long)
    for (document,) in (
        store.similarity_search(QUERY, 1),
        await store.asimilarity_search(QUERY, 1),
        whole.as_retriever(search_kwargs={"k": 1, "content": "passage"}).invoke(QUERY),
        retriever.invoke(QUERY),
        await retriever.ainvoke(QUERY, explain=True),
    ):
        best = document.metadata["_diptych"]["passage"]
        assert (document.id, best["id"], document.metadata["section"]) == ("sox", "sox", "sound")
        assert document.page_content == hit.document.text[best["start"] : best["end"]]
        assert SENTENCES["sox"] in document.page_content
    assert retriever.invoke(QUERY, content="document")[0].page_content == hit.document.text


@pytest.mark.parametrize("content", ["document", "passage"])
async def test_highlights_lie_in_the_metadata_and_are_not_stored(long: Collection, content: Content) -> None:
    (hit,) = long.search(QUERY, limit=1, highlight=True)
    assert hit.highlight is not None
    store = DiptychVectorStore(long, content=content)
    retriever = DiptychRetriever(collection=long, limit=1, content=content)
    before = list(long.documents())
    for (document,) in (
        store.similarity_search(QUERY, 1, highlight=True),
        retriever.invoke(QUERY, highlight=True),
        await retriever.ainvoke(QUERY, highlight=True),
    ):
        highlight = document.metadata["_diptych"]["highlight"]
        assert highlight["sentence"]["text"] == SENTENCES["sox"]
        assert [hit.document.text[start:end] for start, end in highlight["words"]] == ["convert", "audio", "files"]
    if content == "document":
        store.add_documents(store.similarity_search(QUERY, 2, highlight=True))
    assert list(long.documents()) == before
    assert "highlight" not in retriever.invoke(QUERY)[0].metadata["_diptych"]


def test_a_passage_does_not_replace_its_document(long: Collection) -> None:
    store = DiptychVectorStore(long, content="passage")
    with pytest.raises(DocumentError, match="this is a passage of a document"):
        store.add_documents(store.similarity_search(QUERY, 1))


def test_vectors_and_relevance_work_with_a_vector_for_each_passage(long: Collection) -> None:
    store = DiptychVectorStore(long)
    vector = np.asarray(long.encoders["dense"].encode_query([QUERY])[0])
    (document,) = store.similarity_search_by_vector(vector[0].tolist(), 1)
    assert document.id == "sox"
    assert document.metadata["_diptych"]["passages"]
    ((best, relevance),) = store.similarity_search_with_relevance_scores(QUERY, 1)
    (hit,) = long.search(QUERY, pipeline=Retrieve("dense"), limit=1)
    assert best.id == hit.id
    assert relevance == pytest.approx((1 + hit.score) / 2, abs=1e-6)
    assert store.embeddings is None
