"""The frameworks themselves: they write what the committed writers write, their collections are adopted, and they read
what diptych writes into them.

Run with langchain-qdrant 1.1.0, llama-index-vector-stores-qdrant 0.10.4 and qdrant-haystack 13.1.0, which the extra
`test` brings; without them the tests are skipped, though not in CI.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Document, Registry
from diptych.collection.collection import Collection
from diptych.errors import FingerprintMismatch
from diptych.search import Retrieve
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder

Ways = Mapping[str, Any]
Contents = Mapping[Any, tuple[dict[str, Any], Any]]
PARAMS = models.VectorParams(size=24, distance=models.Distance.COSINE)
NEW = Document("0b0f4f0e-7c52-4c9a-93cf-9bb2f8f9a001", "brand new words about nothing", metadata={"section": "new"})
QUERY = "word3 word10 word21"


class Dense:
    """LangChain's embeddings."""

    encoder = FakeDenseEncoder(dimension=24)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector.tolist() for vector in self.encoder.encode_document(texts)]

    def embed_query(self, text: str) -> list[float]:
        return [float(number) for number in self.encoder.encode_query([text])[0]]


class Sparse:
    """LangChain's sparse embeddings."""

    encoder = FakeSparseEncoder()

    def embed_documents(self, texts: list[str]) -> list[models.SparseVector]:
        found = self.encoder.encode_document(texts)
        return [models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist()) for v in found]

    def embed_query(self, text: str) -> models.SparseVector:
        (found,) = self.encoder.encode_query([text])
        return models.SparseVector(indices=found.indices.tolist(), values=found.values.tolist())


def package(name: str) -> Any:
    """A package of a framework."""
    return import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def contents(client: QdrantBase) -> Contents:
    found, _ = client.scroll("c", limit=1000, with_payload=True, with_vectors=True)
    return {point.id: (point.payload or {}, point.vector) for point in found}


def adopted(client: QdrantBase, way: Any, registry: Registry) -> Collection:
    """The collection, once a wrong encoder was refused."""
    with pytest.raises(FingerprintMismatch, match=r"did not make these vectors \(cosine -?0\.\d{4}\)"):
        Collection.adopt(way.config(seed=3), store=client, registry=registry)
    collection = Collection.adopt(way.config(), store=client, registry=registry)
    assert collection.handle.read().layout.origin == way.origin
    return collection


def require_same_payloads(client: QdrantBase, way: Any, texts: Sequence[Any], keep: Callable[[Any], Any]) -> None:
    """The framework's payloads are those of the committed writer."""
    written = contents(client)
    for text in texts:
        point, payload, _ = way.point(text)
        assert keep(written[point][0]) == keep(payload)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langchain", "langchain-hybrid", "langchain-named"])
def test_langchain(client: QdrantBase, ways: Ways, texts: list[Any], registry: Registry, name: str) -> None:
    framework = package("langchain_qdrant")
    document = package("langchain_core.documents").Document
    embeddings = type("Embeddings", (Dense, package("langchain_core.embeddings").Embeddings), {})()
    way = ways[name]
    way.create(client)
    mode = framework.RetrievalMode.HYBRID if way.sparse else framework.RetrievalMode.DENSE
    store = framework.QdrantVectorStore(
        client, "c", embedding=embeddings, sparse_embedding=Sparse(), retrieval_mode=mode, vector_name=way.dense
    )
    written = [document(page_content=text.text, metadata=dict(text.metadata)) for text in texts]
    store.add_documents(written, ids=[text.uuid for text in texts])
    require_same_payloads(client, way, texts, dict)
    collection = adopted(client, way, registry)
    found = [hit.document.text for hit in collection.search(QUERY, limit=5, pipeline=Retrieve("dense"))]
    dense = framework.QdrantVectorStore(client, "c", embedding=embeddings, vector_name=way.dense)
    assert found == [hit.page_content for hit in dense.similarity_search(QUERY, k=5)]
    collection.populate([NEW])
    collection.apply(way.config(seed=6))
    (hit,) = dense.similarity_search(NEW.text, k=1)
    assert (hit.page_content, hit.metadata["section"], hit.metadata["_id"]) == (NEW.text, "new", NEW.id)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-index", "llama-index-hybrid"])
def test_llama_index(client: QdrantBase, ways: Ways, texts: list[Any], registry: Registry, name: str) -> None:
    schema = package("llama_index.core.schema")
    framework = package("llama_index.vector_stores.qdrant")
    types = package("llama_index.core.vector_stores.types")
    way = ways[name]
    store = framework.QdrantVectorStore(
        client=client, collection_name="c", enable_hybrid=bool(way.sparse),
        sparse_doc_fn=_sparse, sparse_query_fn=_sparse,
    )  # fmt: skip
    nodes = [_node(schema, text) for text in texts]
    read = [node.get_content(metadata_mode=schema.MetadataMode.EMBED) for node in nodes]
    assert read == [way.point(text)[2] for text in texts]
    for node, vector in zip(nodes, Dense().embed_documents(read), strict=True):
        node.embedding = vector
    store.add(nodes)
    require_same_payloads(client, way, texts, _opened)
    collection = adopted(client, way, registry)
    asked = types.VectorStoreQuery(query_embedding=Dense().embed_query(QUERY), similarity_top_k=5)
    hits = collection.search(QUERY, limit=5, pipeline=Retrieve("dense"))
    assert [hit.id for hit in hits] == store.query(asked).ids
    collection.populate([NEW, Document(hits[0].id, "changed words", metadata=hits[0].document.metadata)])
    new, changed = (store.get_nodes(node_ids=[identifier])[0] for identifier in (NEW.id, hits[0].id))
    assert (new.text, new.node_id, new.metadata) == (NEW.text, NEW.id, {"section": "new"})
    assert (changed.text, changed.ref_doc_id) == ("changed words", f"source-{hits[0].document.metadata['page']}")
    before = store.query(asked).ids
    collection.apply(way.config(seed=6))
    later = framework.QdrantVectorStore(
        client=client, collection_name="c", enable_hybrid=bool(way.sparse),
        sparse_doc_fn=_sparse, sparse_query_fn=_sparse,
    )  # fmt: skip
    assert later.query(asked).ids == before


@pytest.mark.parametrize("name", ["haystack", "haystack-sparse"])
def test_haystack(ways: Ways, texts: list[Any], registry: Registry, name: str) -> None:
    framework = package("haystack_integrations.document_stores.qdrant")
    classes = package("haystack.dataclasses")
    way = ways[name]
    store = framework.QdrantDocumentStore(
        ":memory:", index="c", embedding_dim=24, use_sparse_embeddings=bool(way.sparse), progress_bar=False
    )
    vectors = Dense().embed_documents([text.text for text in texts])
    weights = Sparse().embed_documents([text.text for text in texts])
    documents = [
        classes.Document(
            id=way.document_id(text), content=text.text, meta=dict(text.metadata), embedding=vector,
            sparse_embedding=classes.SparseEmbedding(own.indices, own.values) if way.sparse else None,
        )
        for text, vector, own in zip(texts, vectors, weights, strict=True)
    ]  # fmt: skip
    store.write_documents(documents)
    client = store._client
    require_same_payloads(client, way, texts, lambda payload: {k: v for k, v in payload.items() if v is not None})
    collection = adopted(client, way, registry)
    hits = collection.search(QUERY, limit=5, pipeline=Retrieve("dense"))
    found = store._query_by_embedding(Dense().embed_query(QUERY), top_k=5)
    assert [hit.id for hit in hits] == [document.id for document in found]
    collection.populate([Document(hits[0].id, "changed words", metadata={"section": "other"}), NEW])
    assert store.count_documents() == len(texts) + 1
    changed, new = (store.get_documents_by_id([identifier])[0] for identifier in (hits[0].id, NEW.id))
    assert (changed.content, changed.meta) == ("changed words", {"section": "other"})
    assert (new.content, new.meta) == (NEW.text, {"section": "new"})
    store.write_documents([new], policy=_policy("OVERWRITE"))
    assert store.count_documents() == len(texts) + 1
    before = [document.id for document in store._query_by_embedding(Dense().embed_query(QUERY), top_k=5)]
    collection.apply(way.config(seed=6))
    assert [document.id for document in store._query_by_embedding(Dense().embed_query(QUERY), top_k=5)] == before


def _node(schema: Any, text: Any) -> Any:
    source = schema.Document(id_=f"source-{text.number}", text=text.text, metadata=dict(text.metadata))
    return schema.TextNode(
        id_=text.uuid,
        text=text.text,
        metadata=dict(text.metadata),
        excluded_embed_metadata_keys=["page"],
        relationships={schema.NodeRelationship.SOURCE: source.as_related_node_info()},
    )


def _sparse(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    found = Sparse().embed_documents(texts)
    return [vector.indices for vector in found], [vector.values for vector in found]


def _opened(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with its node as a mapping, and without the hash, which depends on the release."""
    node = json.loads(payload["_node_content"])
    node["relationships"]["1"]["hash"] = None
    return {**payload, "_node_content": node}


def _policy(name: str) -> Any:
    return package("haystack.document_stores.types").DuplicatePolicy[name]
