"""Passages through Haystack: in a document's meta, or as its content."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from haystack import Pipeline

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin
from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever
from diptych_adapters.haystack.documents import UnusableDocument
from long_documents import QUERY, SENTENCES, SLOTS, manuals


@pytest.fixture
def long(place: str | dict[str, Any]) -> Iterator[Collection]:
    config = {**(place if isinstance(place, dict) else {"store": place}), "collection": "things", "slots": SLOTS}
    with Collection.open(parse_config(config), registry=Registry(fakes_plugin)) as collection:
        collection.populate(manuals())
        yield collection


def test_the_meta_of_a_document_hold_its_passages(long: Collection) -> None:
    (hit,) = long.search(QUERY, limit=1, passages=2)
    retriever = DiptychRetriever(DiptychDocumentStore(long), top_k=1, passages=2)
    for answer in (retriever.run(QUERY), asyncio.run(retriever.run_async(QUERY))):
        (document,) = answer["documents"]
        assert document.content == hit.document.text
        passages = document.meta["_diptych"]["passages"]
        assert [own["text"] for own in passages] == [own.text for own in hit.passages]


def test_a_document_that_was_found_can_be_written_again_and_changes_nothing(long: Collection) -> None:
    store, before = DiptychDocumentStore(long), list(long.documents())
    store.write_documents(DiptychRetriever(store).run(QUERY)["documents"])
    assert list(long.documents()) == before


def test_the_best_passage_alone_is_the_content_where_that_is_wanted(long: Collection) -> None:
    store = DiptychDocumentStore(long)
    retriever = DiptychRetriever(store, top_k=1, content="passage", explain=True)
    (document,) = retriever.run(QUERY)["documents"]
    place = document.meta["_diptych"]["passage"]
    assert document.content is not None
    assert SENTENCES["sox"] in document.content
    assert (document.id, place["id"]) == ("sox", "sox")
    assert long.get(["sox"])[0].text[place["start"] : place["end"]] == document.content
    assert "_explanation" in document.meta
    with pytest.raises(UnusableDocument, match="this is a passage of a document"):
        store.write_documents([document])


def test_highlights_lie_in_the_meta_and_are_not_written(long: Collection) -> None:
    store, before = DiptychDocumentStore(long), list(long.documents())
    retriever = DiptychRetriever(store, top_k=1, passages=0, highlight=True)
    for answer in (retriever.run(QUERY), asyncio.run(retriever.run_async(QUERY))):
        (document,) = answer["documents"]
        assert document.content is not None
        highlight = document.meta["_diptych"]["highlight"]
        assert highlight["sentence"]["text"] == SENTENCES["sox"]
        assert [document.content[start:end] for start, end in highlight["words"]] == ["convert", "audio", "files"]
    store.write_documents([document])
    assert list(long.documents()) == before


def test_the_choice_survives_yaml() -> None:
    store = DiptychDocumentStore({"store": "memory:", "collection": "things", "slots": SLOTS})
    pipeline = Pipeline()
    pipeline.add_component("retriever", DiptychRetriever(store, content="passage", passages=1, highlight=True))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["diptych_adapters.haystack"]).get_component("retriever")
    assert isinstance(again, DiptychRetriever)
    assert (again.content, again.options) == ("passage", {"passages": 1, "highlight": True})
