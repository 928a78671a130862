"""What came in through one door is found, read and brought in again through another, and nothing is encoded twice."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from haystack import Document

import diptych
from diptych import Collection, Registry, hookimpl
from diptych.reports import PopulateReport
from diptych.testing import fakes_plugin
from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever

OURS = [
    Document(id="lame", content="convert audio files", meta={"title": "lame", "section": "sound", "at": {"n": [1, 2]}}),
    Document(content="edit pictures", meta={"section": "graphics", "free": True}),
]
NATIVE = diptych.Document("gimp", "retouch photographs", "gimp", {"section": "graphics"})
QUERY = "convert music and audio files"


class Listener:
    """A plugin that keeps what populate encoded."""

    def __init__(self) -> None:
        self.encoded: list[int] = []

    @hookimpl
    def diptych_after_populate(self, report: PopulateReport) -> None:
        self.encoded.append(sum(report.encoded.values()))


def package(name: str) -> Any:
    """A framework that may not be there."""
    pytest.importorskip(name)
    return import_module(name)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def filled(listener: Listener, place: str | dict[str, Any], tmp_path: Path) -> Any:
    """A collection that three doors filled."""
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
    own = {"store": place} if isinstance(place, str) else place
    config = {**own, "collection": "things", "slots": slots, "cache": {"enabled": False}}
    package("langchain_core")
    bridge = import_module("diptych_adapters.langchain")
    with Collection.open(config, registry=Registry(fakes_plugin, listener)) as collection:
        DiptychDocumentStore(collection).write_documents(OURS)
        collection.populate([NATIVE])
        bridge.DiptychVectorStore(collection).add_texts(["play music"], [{"title": "mpd", "n": 1}], ids=["mpd"])
        yield collection


def test_all_doors_give_the_same_documents_in_the_same_order(filled: Collection) -> None:
    wanted = [hit.id for hit in filled.search(QUERY, limit=10)]
    found = DiptychRetriever(DiptychDocumentStore(filled), top_k=10).run(QUERY)["documents"]
    theirs = import_module("diptych_adapters.langchain").DiptychVectorStore(filled).similarity_search(QUERY, k=10)
    assert [document.id for document in found] == [document.id for document in theirs] == wanted
    assert [document.content for document in found] == [document.page_content for document in theirs]
    assert [document.meta for document in found] == [document.metadata for document in theirs]


def test_what_one_door_reads_and_writes_again_is_not_encoded(filled: Collection, listener: Listener) -> None:
    before = {document.id: document for document in filled.documents()}
    store = DiptychDocumentStore(filled)
    theirs = import_module("diptych_adapters.langchain").DiptychVectorStore(filled)
    store.write_documents(store.filter_documents())
    theirs.add_documents(theirs.get_by_ids(list(before)), ids=list(before))
    filled.populate(before.values())
    assert listener.encoded == [4, 2, 2, 0, 0, 0]
    assert {document.id: document for document in filled.documents()} == before


def test_nodes_of_llama_index_come_back_exactly(filled: Collection, listener: Listener) -> None:
    schema = package("llama_index.core.schema")
    nodes = [
        schema.TextNode(id_="n1", text="a node about audio", metadata={"section": "sound", "page": 3}),
        schema.TextNode(
            id_="n2", text="another node", metadata={"title": "other"}, excluded_embed_metadata_keys=["title"]
        ),
    ]
    nodes[0].relationships[schema.NodeRelationship.NEXT] = nodes[1].as_related_node_info()
    theirs = import_module("diptych_adapters.llama_index").DiptychVectorStore(filled)
    theirs.add(nodes)
    store = DiptychDocumentStore(filled)
    store.write_documents(store.filter_documents())
    assert listener.encoded[-1] == 0
    as_they_were = [node.model_dump() for node in nodes]
    assert [node.model_dump() for node in theirs.get_nodes(["n1", "n2"])] == as_they_were
    sound = {"field": "meta.section", "operator": "==", "value": "sound"}
    assert {document.id for document in store.filter_documents(sound)} == {"lame", "n1"}
    assert {node.node_id for node in theirs.get_nodes(["lame", "mpd"])} == {"lame", "mpd"}
