"""Haystack's documents hold pictures as blobs, get them back, and queries may be pictures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("haystack")

from haystack import Document
from haystack.dataclasses import ByteStream

import diptych
from colour_plugin import COLOURS
from diptych import Collection, Registry
from diptych.errors import MediaError
from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever
from diptych_adapters.haystack.documents import UnusableDocument

Made = Callable[..., dict[str, Any]]


@pytest.fixture
def given(pictures: Path) -> list[Document]:
    def blob(name: str) -> ByteStream:
        return ByteStream((pictures / f"{name}.png").read_bytes(), mime_type="image/png")

    named = [Document(id=n, content=f"a {n}", meta={"file_path": f"{n}.png"}, blob=blob(n)) for n in COLOURS]
    facts = ByteStream(blob("half").data, meta={"page": 3}, mime_type="image/x-scan")
    return [*named, Document(id="half", blob=facts), Document(id="note", content="four corners")]


def by_id(documents: list[Document]) -> dict[str, Document]:
    return {own.id: bare(own) for own in documents}


def bare(document: Document) -> Document:
    """The document without what a search or a reading adds."""
    meta = {key: value for key, value in document.meta.items() if key != "_diptych"}
    return replace(document, score=None, meta=meta)


def test_blobs_come_back_as_they_went_in_where_the_collection_holds_them(
    config: Made, colours: Registry, given: list[Document]
) -> None:
    with Collection.open(config(media={"store": "bytes"}), registry=colours) as collection:
        store = DiptychDocumentStore(collection)
        assert store.write_documents(given) == len(given)
        assert by_id(store.filter_documents()) == by_id(given)
        assert store.get_metadata_fields_info() == {"file_path": {"type": "keyword"}}
        filters = {"field": "meta.file_path", "operator": "==", "value": "red.png"}
        assert store.update_by_filter(filters, {"seen": True}) == 1
        (red,) = store.filter_documents(filters)
        assert bare(red) == replace(given[0], meta={"file_path": "red.png", "seen": True})


def test_a_picture_finds_pictures_and_what_is_found_can_be_written_again(
    config: Made, colours: Registry, given: list[Document], pictures: Path
) -> None:
    with Collection.open(config(), registry=colours) as collection:
        store = DiptychDocumentStore(collection)
        retriever = DiptychRetriever(store, top_k=1, explain=True)
        query = {"image": ByteStream.from_file_path(pictures / "blue.png")}
        assert retriever.run("", media=query) == {"documents": []}
        store.write_documents(given)
        (found,) = retriever.run("", media=query)["documents"]
        assert (found.id, found.blob) == ("blue", None)
        assert found.meta["_explanation"]
        assert found.meta["_diptych"]["media"]["image"]["bytes"] == 85
        (both,) = asyncio.run(retriever.run_async("half", media={"image": "half.png"}))["documents"]
        assert both.id == "half"
        before = {own.id: own for own in collection.documents()}
        for document in (found, both):
            document.meta.pop("_explanation")
        store.write_documents([found, both])
        assert {own.id: own for own in collection.documents()} == before, "the reference keeps the picture"
        with pytest.raises(MediaError, match="image"):
            retriever.run("", media={"image": ByteStream(b"words", mime_type="image/png")})


def test_paths_stay_metadata_and_files_populated_elsewhere_come_as_references(
    config: Made, colours: Registry, documents: list[diptych.Document]
) -> None:
    with Collection.open(config(), registry=colours) as collection:
        collection.populate(documents)
        store = DiptychDocumentStore(collection)
        (red,) = [own for own in store.filter_documents() if own.id == "red"]
        assert (red.blob, red.meta["_diptych"]["media"]["image"]["source"]) == (None, "red.png")
        store.write_documents([red])
        assert collection.populate(documents).unchanged == len(documents)


def test_blobs_that_no_slot_reads_are_refused_as_before(config: Made, colours: Registry, given: list[Document]) -> None:
    with Collection.open(config(), registry=colours) as collection:
        store = DiptychDocumentStore(collection)
        for kind in ("audio/wav", "application/pdf", None):
            with pytest.raises(UnusableDocument, match="binary data, which a collection would lose"):
                store.write_documents([Document(content="words", blob=ByteStream(b"RIFF", mime_type=kind))])
        with pytest.raises(UnusableDocument, match="1 of 1"):
            store.write_documents([Document(id="x", blob=ByteStream(b"no picture", mime_type="image/png"))])
        with pytest.raises(UnusableDocument, match="has no text"):
            store.write_documents([Document(id="y")])
    texts = config(slots={"lexical": {"adapter": "bm25"}}, collection="bytes")
    with Collection.open(texts, registry=colours) as other, pytest.raises(UnusableDocument, match="of: image"):
        DiptychDocumentStore(other).write_documents(given[:1])
