"""LangChain's documents bring pictures along in their metadata, get them back, and queries may be pictures."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("langchain_core")

from langchain_core.documents import Document

import diptych
from colour_plugin import COLOURS
from diptych import Collection, Registry
from diptych.errors import DocumentError, MediaError, SearchError
from diptych.search import Retrieve
from diptych_adapters.langchain import DiptychRetriever, DiptychVectorStore

Made = Callable[..., dict[str, Any]]
PICTURE = Retrieve("picture")


def as_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def bare(documents: list[Document]) -> list[Document]:
    """The documents without what a search or a reading adds."""
    plain = [{key: value for key, value in own.metadata.items() if key != "_diptych"} for own in documents]
    return [own.model_copy(update={"metadata": metadata}) for own, metadata in zip(documents, plain, strict=True)]


@pytest.fixture
def given() -> list[Document]:
    named = [Document(page_content=f"a {n}", id=n, metadata={"media": {"image": f"{n}.png"}, "n": 1}) for n in COLOURS]
    return [*named, Document(page_content="", id="half", metadata={"media": {"image": "half.png"}})]


@pytest.fixture
def collection(config: Made, colours: Registry) -> Any:
    with Collection.open(config(media={"store": "bytes"}), registry=colours) as opened:
        yield opened


def test_documents_come_back_as_they_went_in_and_cost_nothing_the_second_time(
    collection: Collection, given: list[Document]
) -> None:
    store = DiptychVectorStore(collection)
    ids = store.add_documents(given)
    assert bare(store.get_by_ids(ids)) == given
    found = store.similarity_search_by_image("red.png", 5, pipeline=PICTURE)
    assert bare(found)[0] == given[0]
    assert collection.populate([diptych.Document("red", "a red", "", {"n": 1}, {"image": "red.png"})]).unchanged == 1
    store.add_documents(found)
    assert bare(store.get_by_ids(ids)) == given


def test_a_picture_finds_pictures_by_path_and_by_its_bytes(
    collection: Collection, given: list[Document], pictures: Path
) -> None:
    store = DiptychVectorStore(collection)
    assert store.similarity_search_by_image("red.png") == []
    store.add_documents(given)
    assert [own.id for own in store.similarity_search_by_image(as_uri(pictures / "blue.png"), 1)] == ["blue"]
    (found,) = asyncio.run(store.asimilarity_search_by_image("green.png", 1))
    assert found.id == "green"
    with pytest.raises(MediaError, match=r"absent\.png"):
        store.similarity_search_by_image("absent.png")
    with pytest.raises(SearchError, match="no slot"):
        store.similarity_search_by_image("red.png", pipeline=Retrieve("lexical"))


def test_a_retriever_takes_pictures_beside_a_text_or_alone(collection: Collection, given: list[Document]) -> None:
    DiptychVectorStore(collection).add_documents(given)
    retriever = DiptychRetriever(collection=collection, limit=1, pipeline=PICTURE)
    (found,) = retriever.invoke("", media={"image": "yellow.png"}, explain=True)
    assert found.id == "yellow"
    assert found.metadata["_explanation"]
    (both,) = asyncio.run(retriever.ainvoke("blue", media={"image": "blue.png"}))
    assert both.id == "blue"


def test_bytes_come_back_whole_and_hits_hold_a_reference(
    config: Made, colours: Registry, collection: Collection, pictures: Path
) -> None:
    uri = as_uri(pictures / "red.png")
    given = Document(page_content="bare", metadata={"media": {"image": uri}})
    store = DiptychVectorStore(collection)
    (identifier,) = store.add_documents([given])
    assert bare(store.get_by_ids([identifier]))[0].metadata == given.metadata
    (hit,) = store.similarity_search("bare", 1)
    assert "media" not in hit.metadata
    store.add_documents([hit])
    assert bare(store.get_by_ids([identifier]))[0].metadata == given.metadata, "a hit that is added again loses nothing"
    hit.metadata["edited"] = True
    with Collection.open(config(collection="thumbnail", cache={"enabled": False}), registry=colours) as references:
        other = DiptychVectorStore(references)
        with pytest.raises(DocumentError, match="1 of 1 documents cannot be indexed") as caught:
            other.add_documents([hit])
        assert "does not hold" in str(caught.value)


def test_without_slots_for_media_the_key_is_metadata_as_before(config: Made, colours: Registry) -> None:
    with Collection.open(config(slots={"lexical": {"adapter": "bm25"}}), registry=colours) as texts:
        store = DiptychVectorStore(texts)
        plain = Document(page_content="plain", id="p", metadata={"media": {"image": "absent.png"}})
        store.add_documents([plain])
        assert store.get_by_ids(["p"]) == [plain]
        assert texts.get(["p"])[0].media == {}
        texts.populate([diptych.Document("q", "words", media={"image": "red.png"})])
        (found,) = store.get_by_ids(["q"])
        store.add_documents([found])
        assert texts.get(["q"])[0].media, "a reference keeps what LangChain has no place for"
