"""What a framework asks beyond adding, finding and deleting by id stays within the tenant, too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from diptych import Collection
from diptych.errors import TenantError
from diptych_adapters import haystack, langchain, llama_index

from .conftest import Open, documents

KIND = {"field": "meta.kind", "operator": "==", "value": 1}


@pytest.fixture
def notes(opened: Open) -> Collection:
    """Eight documents of each of the tenants `a` and `b`, of the same ids."""
    collection = opened()
    collection.populate(documents("a", "b"))
    return collection


def whole(notes: Collection, tenant: str) -> dict[str, Any]:
    """All that a tenant has."""
    return {document.id: document for document in notes.for_tenant(tenant).documents()}


def test_langchains_searches_find_the_tenants_own(notes: Collection) -> None:
    store = langchain.DiptychVectorStore(notes.for_tenant("a"), slot="dense")
    vector = langchain.DiptychEmbeddings("dense", source=notes.encoders).embed_query("red of b")
    for found in (
        store.similarity_search_by_vector(vector, k=20),
        store.max_marginal_relevance_search("red of b", k=20, fetch_k=20),
        store.max_marginal_relevance_search_by_vector(vector, k=20, fetch_k=20),
        [document for document, _ in store.similarity_search_with_relevance_scores("red of b", k=20)],
        asyncio.run(store.asimilarity_search("red of b", k=20)),
        store.as_retriever(search_kwargs={"k": 20}).invoke("red of b"),
        langchain.DiptychRetriever(collection=notes.for_tenant("a"), limit=20, explain=True).invoke("red of b"),
    ):
        assert [document.metadata["customer"] for document in found] == ["a"] * 8


def test_langchain_makes_a_store_of_texts_for_a_tenant(notes: Collection) -> None:
    before, c = whole(notes, "a"), notes.for_tenant("c")
    store = langchain.DiptychVectorStore.from_texts(
        ["red"], langchain.DiptychEmbeddings("dense", source=c.encoders), collection=c
    )
    (found,) = store.similarity_search("red")
    assert found.metadata == {"customer": "c"}
    assert store.add_documents([found]) == [found.id]
    assert (c.count(), whole(notes, "a")) == (1, before)


def test_llama_indexs_queries_find_the_tenants_own(notes: Collection) -> None:
    store = llama_index.DiptychVectorStore(notes.for_tenant("a"))
    vector = llama_index.DiptychEmbedding("dense", source=notes).get_query_embedding("red of b")
    modes = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.MMR)
    queries = [VectorStoreQuery(query_str="red of b", similarity_top_k=20, mode=mode) for mode in modes]
    for query in (*queries, VectorStoreQuery(query_embedding=vector, similarity_top_k=20)):
        found = [store.query(query), asyncio.run(store.aquery(query))]
        assert [[node.metadata["customer"] for node in one.nodes or ()] for one in found] == [["a"] * 8] * 2
    retriever = llama_index.DiptychRetriever(notes.for_tenant("a"), similarity_top_k=20, explain=True)
    assert [found.node.metadata["customer"] for found in retriever.retrieve("red of b")] == ["a"] * 8


def test_llama_index_deletes_by_source_by_filter_and_all_within_the_tenant(notes: Collection) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="book")}
    stores = [llama_index.DiptychVectorStore(notes.for_tenant(tenant)) for tenant in "ab"]
    for store in stores:
        context = StorageContext.from_defaults(vector_store=store)
        nodes = [TextNode(id_=f"n{n}", text=f"page {n}", relationships=source) for n in range(3)]
        VectorStoreIndex(nodes, storage_context=context, embed_model=store.embed_model)
    a, before = stores[0], whole(notes, "b")
    assert len(a.get_nodes()) == 11
    a.delete("book")
    assert len(a.get_nodes()) == 8
    a.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="kind", value=1, operator=FilterOperator.EQ)]))
    assert {node.metadata["kind"] for node in a.get_nodes()} == {0}
    a.clear()
    assert (a.get_nodes(), whole(notes, "b")) == ([], before)
    assert a.client is notes.client


def test_haystack_counts_reads_updates_and_deletes_within_the_tenant(notes: Collection) -> None:
    store, before = haystack.DiptychDocumentStore(notes, tenant="a"), whole(notes, "b")
    assert (store.count_documents(), store.count_documents_by_filter(KIND)) == (8, 4)
    assert store.get_metadata_field_unique_values("customer") == (["a"], 1)
    assert store.count_unique_metadata_by_filter(KIND, ["customer", "kind"]) == {"customer": 1, "kind": 1}
    assert store.get_metadata_field_min_max("kind") == {"min": 0, "max": 1}
    assert store.update_by_filter(KIND, {"kind": 7}) == 4
    assert store.get_metadata_field_min_max("kind") == {"min": 0, "max": 7}
    assert store.delete_by_filter({**KIND, "value": 7}) == 4
    assert {document.meta["kind"] for document in store.filter_documents()} == {0}
    store.delete_all_documents()
    assert (store.count_documents(), whole(notes, "b")) == (0, before)


def test_haystack_cannot_hand_a_document_to_another_tenant(notes: Collection) -> None:
    store, before = haystack.DiptychDocumentStore(notes.for_tenant("a")), [whole(notes, "a"), whole(notes, "b")]
    with pytest.raises(haystack.documents.UnusableDocument, match="belongs to another tenant than 'a'"):
        store.update_by_filter(KIND, {"customer": "b"})
    assert [whole(notes, "a"), whole(notes, "b")] == before


def test_haystack_keeps_the_tenant_in_yaml(tmp_path: Path) -> None:
    config = {
        "store": f"edge:{tmp_path / 'qdrant'}",
        "collection": "notes",
        "slots": {"lexical": {"adapter": "bm25", "average_length": 3}},
        "tenant": {"field": "customer"},
    }
    pipeline = Pipeline()
    for tenant in ("a", "b"):
        store = haystack.DiptychDocumentStore(config, tenant=tenant)
        store.write_documents([Document(id="1", content=f"red of {tenant}")])
        pipeline.add_component(tenant, haystack.DiptychRetriever(store))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["diptych_adapters.haystack"])
    found = again.run({"a": {"query": "red"}, "b": {"query": "red"}})
    assert [[document.content for document in found[tenant]["documents"]] for tenant in "ab"] == [
        ["red of a"],
        ["red of b"],
    ]
    for made in (pipeline, again):
        for tenant in ("a", "b"):
            retriever: Any = made.get_component(tenant)
            retriever.close()


def test_haystack_takes_no_other_tenant_for_one_tenants_view(notes: Collection) -> None:
    a = notes.for_tenant("a")
    assert haystack.DiptychDocumentStore(a, tenant="a").count_documents() == 8
    with pytest.raises(TenantError, match="one tenant's view"):
        haystack.DiptychDocumentStore(a, tenant="b").count_documents()
    with pytest.raises(TenantError, match="not a valid tenant"):
        haystack.DiptychDocumentStore(notes, tenant="").count_documents()
