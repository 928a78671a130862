"""Collections that LlamaIndex's own store or another framework filled, once diptych has adopted them."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.errors import CollectionError
from diptych.search import Diversify, Pipeline, Retrieve
from diptych.testing import FakeDenseEncoder
from diptych_adapters.llama_index import DiptychEmbedding, DiptychVectorStore

CONFIG = {
    "store": "memory:",
    "collection": "c",
    "slots": {"dense": {"adapter": "fake-dense"}},
    "cache": {"enabled": False},
    "populate": {"separator": "\n\n"},
}


@pytest.fixture
def written(nodes: list[TextNode]) -> list[TextNode]:
    """The nodes, with ids that LlamaIndex's store takes."""
    for n, node in enumerate(nodes):
        node.id_ = f"00000000-0000-4000-8000-{n:012d}"
    return nodes


@pytest.fixture
def store(written: list[TextNode], registry: Registry) -> DiptychVectorStore:
    config, client = parse_config(CONFIG), QdrantClient(":memory:")
    context = StorageContext.from_defaults(vector_store=QdrantVectorStore(client=client, collection_name="c"))
    embedding = DiptychEmbedding(source=Encoders.open(config, registry=registry))
    VectorStoreIndex(written, storage_context=context, embed_model=embedding)
    return DiptychVectorStore(Collection.adopt(config, store=client, registry=registry))


def test_nodes_are_found_and_read_with_their_text_and_metadata(
    store: DiptychVectorStore, written: list[TextNode]
) -> None:
    result = store.query(VectorStoreQuery(query_str="word1 word2", similarity_top_k=30))
    by_id = {node.node_id: node for node in written}
    assert set(result.ids or ()) == set(by_id)
    for node in result.nodes or ():
        assert node.get_content() == by_id[node.node_id].text
        assert node.metadata == by_id[node.node_id].metadata
        excluded = by_id[node.node_id].excluded_embed_metadata_keys
        assert set(node.excluded_embed_metadata_keys) == set(excluded) & node.metadata.keys()


def test_filters_and_deletion_go_by_the_keys_that_llama_index_wrote(
    store: DiptychVectorStore, written: list[TextNode]
) -> None:
    titled = MetadataFilters(filters=[MetadataFilter(key="title", value="Title 3", operator=FilterOperator.EQ)])
    wanted = {node.node_id for node in written if node.metadata.get("title") == "Title 3"}
    assert {node.node_id for node in store.get_nodes(filters=titled)} == wanted != set()
    store.delete("source-1")
    left = {node.node_id for node in written if node.ref_doc_id != "source-1"}
    assert {node.node_id for node in store.get_nodes()} == left


def test_adding_is_left_to_the_store_that_filled_it(store: DiptychVectorStore, written: list[TextNode]) -> None:
    with pytest.raises(CollectionError, match=r"(?s)filled this collection.*add with QdrantVectorStore"):
        store.add(written)


def test_nodes_come_back_from_a_collection_of_another_framework(
    written: list[TextNode], registry: Registry, reports: Any
) -> None:
    client, encoder = QdrantClient(":memory:"), FakeDenseEncoder()
    client.create_collection("c", models.VectorParams(size=64, distance=models.Distance.COSINE))
    texts = [f"word{n} other{n % 3} words" for n in range(40)]
    for n, vector in enumerate(encoder.encode_document(texts)):
        payload = {"page_content": texts[n], "metadata": {"section": "old", "n": n}}
        client.upsert("c", [models.PointStruct(id=n, vector=vector.tolist(), payload=payload)])
    store = DiptychVectorStore(Collection.adopt(parse_config(CONFIG), store=client, registry=registry))
    for _ in range(2):
        store.add(written)
    assert reports.encoded == [30, 0]
    ids = [node.node_id for node in written]
    assert [node.model_dump() for node in store.get_nodes(ids)] == [node.model_dump() for node in written]
    old = MetadataFilters(filters=[MetadataFilter(key="section", value="old"), MetadataFilter(key="n", value=7)])
    (found,) = store.get_nodes(filters=old)
    assert (found.node_id, found.get_content(), found.metadata) == ("7", texts[7], {"section": "old", "n": 7})
    store.delete("source-2")
    assert store.collection.count() == 40 + 20


@pytest.mark.parametrize("stages", [Retrieve("dense"), Retrieve("dense", 100) >> Diversify("dense", 1.0, 100)])
def test_nodes_of_one_document_are_one_hit_with_the_nodes_as_passages(
    store: DiptychVectorStore, written: list[TextNode], stages: Retrieve | Pipeline
) -> None:
    sources = {node.text: node.ref_doc_id for node in written}
    groups = store.collection.search_groups("word1 word2", group_by="ref_doc_id", group_size=5, pipeline=stages)
    hits = [group.hit for group in groups]
    assert {hit.id for hit in hits} == {node.ref_doc_id for node in written if node.ref_doc_id}
    for hit in hits:
        assert {sources[own.text] for own in hit.passages} == {hit.id}
        assert hit.document.text == hit.passages[0].text
