"""What came in through one door is found, read and brought in again through another, and nothing is encoded twice."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from llama_index.core.schema import TextNode

from diptych import Collection, Document
from diptych_adapters.llama_index import DiptychVectorStore

DOCUMENTS = [
    Document("sox", "word1 converts audio files", "SoX", {"section": "sound"}),
    Document("gimp", "word2 edits pictures", metadata={"section": "graphics", "tags": ["a"]}),
]


@pytest.fixture
def langchain() -> Any:
    pytest.importorskip("langchain_core")
    import diptych_adapters.langchain as bridge

    return bridge


def haystack(collection: Collection) -> Any:
    pytest.importorskip("haystack")
    return import_module("diptych_adapters.haystack").DiptychDocumentStore(collection)


def test_what_another_door_read_and_wrote_again_is_the_same_node(
    opened: Any, nodes: list[TextNode], langchain: Any, reports: Any
) -> None:
    collection = opened()
    store, other = DiptychVectorStore(collection), langchain.DiptychVectorStore(collection)
    store.add(nodes)
    ids = [node.node_id for node in nodes]
    read = other.get_by_ids(ids)
    assert [found.page_content for found in read] == [node.get_content() for node in nodes]
    other.add_documents(read, ids=ids)
    third = haystack(collection)
    third.write_documents(third.filter_documents())
    assert reports.encoded == [60, 0, 0]
    assert [node.model_dump() for node in store.get_nodes(ids)] == [node.model_dump() for node in nodes]


def test_what_four_doors_wrote_is_one_document(opened: Any, langchain: Any, reports: Any) -> None:
    collection = opened()
    store, other = DiptychVectorStore(collection), langchain.DiptychVectorStore(collection)
    collection.populate(DOCUMENTS)
    store.add(store.get_nodes(["sox", "gimp"]))
    read, third = other.get_by_ids(["sox", "gimp"]), haystack(collection)
    other.add_documents(read, ids=["sox", "gimp"])
    theirs = {document.id: (document.content, document.meta) for document in third.filter_documents()}
    assert {found.id: (found.page_content, found.metadata) for found in read} == theirs
    third.write_documents(third.filter_documents())
    assert reports.encoded == [4, 0, 0, 0]
    assert collection.get(["sox", "gimp"]) == DOCUMENTS


def test_metadata_that_llama_index_encodes_makes_another_document_than_the_same_without(
    opened: Any, reports: Any
) -> None:
    collection = opened()
    node = TextNode(id_="sox", text="word1 converts", metadata={"section": "sound"})
    bare = Document("sox", "word1 converts", metadata={"section": "sound"})
    DiptychVectorStore(collection).add([node])
    assert collection.get(["sox"])[0].title == "section: sound", "as LlamaIndex has it encoded"
    collection.populate([bare])
    assert collection.get(["sox"]) == [bare]
    assert reports.encoded == [2, 2]
    node.excluded_embed_metadata_keys = ["section"]
    DiptychVectorStore(collection).add([node])
    assert collection.get(["sox"]) == [bare]
    assert reports.encoded == [2, 2, 0]
