"""LlamaIndex as its quick start has it: VectorStoreIndex over QdrantVectorStore on QdrantClient(":memory:")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peers.stores import NAME, identifier, pieces

PACKAGES = (
    "llama-index-core",
    "llama-index-vector-stores-qdrant",
    "llama-index-embeddings-huggingface",
    "qdrant-client",
    "sentence-transformers",
    "torch",
)


class Peer:
    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        import torch
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        torch.set_num_threads(threads)
        self._embedding = HuggingFaceEmbedding(model_name=model, device="cpu", **options)
        self._index: Any = None
        self._client: Any = None

    def new(self) -> None:
        self._index = self._client = None

    def _store(self) -> Any:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        self._client = QdrantClient(":memory:")
        return QdrantVectorStore(client=self._client, collection_name=NAME)

    def populate(self, texts: Sequence[str]) -> None:
        from llama_index.core import Document, StorageContext, VectorStoreIndex

        documents = [Document(text=text, id_=identifier(n), metadata={"number": n}) for n, text in enumerate(texts)]
        context = StorageContext.from_defaults(vector_store=self._store())
        self._index = VectorStoreIndex.from_documents(
            documents, storage_context=context, embed_model=self._embedding, show_progress=False
        )

    def fill(self, texts: Sequence[str], vectors: Any) -> None:
        """By the store's own `add`, which takes nodes that have their vectors."""
        from llama_index.core import VectorStoreIndex
        from llama_index.core.schema import TextNode

        store = self._store()
        for piece in pieces(texts, vectors):
            store.add(
                [
                    TextNode(id_=identifier(n), text=text, metadata={"number": n}, embedding=row)
                    for n, text, row in piece
                ]
            )
        self._index = VectorStoreIndex.from_vector_store(store, embed_model=self._embedding)

    def count(self) -> int:
        return int(self._client.count(NAME).count)

    def query(self, text: str, limit: int) -> list[int]:
        found = self._index.as_retriever(similarity_top_k=limit).retrieve(text)
        return [hit.node.metadata["number"] for hit in found]
