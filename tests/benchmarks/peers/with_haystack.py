"""Haystack as its quick start has it: an indexing and a query pipeline over QdrantDocumentStore(":memory:")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peers.stores import identifier, pieces

PACKAGES = (
    "haystack-ai",
    "qdrant-haystack",
    "sentence-transformers-haystack",
    "qdrant-client",
    "sentence-transformers",
    "torch",
)


class Peer:
    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        import torch
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
            SentenceTransformersTextEmbedder,
        )

        torch.set_num_threads(threads)
        given = {"model": model, "device": ComponentDevice.from_str("cpu"), "progress_bar": False, **options}
        self._documents: Any = SentenceTransformersDocumentEmbedder(**given)
        self._texts: Any = SentenceTransformersTextEmbedder(**given)
        self._documents.warm_up()
        self._texts.warm_up()
        self._store: Any = None
        self._asking: Any = None

    def new(self) -> None:
        """The query pipeline is a new one too; the embedders stay, with their models."""
        if self._asking:
            self._asking.remove_component("embedder")  # a component belongs to one pipeline
        self._store = self._asking = None

    def _create(self) -> Any:
        from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

        self._store = QdrantDocumentStore(":memory:", embedding_dim=384, recreate_index=True, progress_bar=False)
        return self._store

    def populate(self, texts: Sequence[str]) -> None:
        from haystack import Document, Pipeline
        from haystack.components.writers import DocumentWriter

        documents = [Document(id=identifier(n), content=text, meta={"number": n}) for n, text in enumerate(texts)]
        pipeline = Pipeline()
        pipeline.add_component("embedder", self._documents)
        pipeline.add_component("writer", DocumentWriter(self._create()))
        pipeline.connect("embedder", "writer")
        pipeline.run({"embedder": {"documents": documents}})
        pipeline.remove_component("embedder")

    def fill(self, texts: Sequence[str], vectors: Any) -> None:
        """By the store's own `write_documents`, which takes documents that have their vectors."""
        from haystack import Document

        store = self._create()
        for piece in pieces(texts, vectors):
            store.write_documents(
                [Document(id=identifier(n), content=text, meta={"number": n}, embedding=row) for n, text, row in piece]
            )

    def count(self) -> int:
        return int(self._store.count_documents())

    def query(self, text: str, limit: int) -> list[int]:
        self._asking = self._asking or self._pipeline(limit)
        found = self._asking.run({"embedder": {"text": text}})
        return [document.meta["number"] for document in found["retriever"]["documents"]]

    def _pipeline(self, limit: int) -> Any:
        from haystack import Pipeline
        from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever

        pipeline = Pipeline()
        pipeline.add_component("embedder", self._texts)
        pipeline.add_component("retriever", QdrantEmbeddingRetriever(self._store, top_k=limit))
        pipeline.connect("embedder.embedding", "retriever.query_embedding")
        return pipeline
