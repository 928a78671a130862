"""LangChain as its quick start has it: HuggingFaceEmbeddings into QdrantVectorStore on QdrantClient(":memory:")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peers.stores import NAME, identifier, pieces

PACKAGES = (
    "langchain-qdrant",
    "langchain-huggingface",
    "langchain-core",
    "qdrant-client",
    "sentence-transformers",
    "torch",
)


class Peer:
    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        import torch
        from langchain_huggingface import HuggingFaceEmbeddings

        torch.set_num_threads(threads)
        self._embeddings = HuggingFaceEmbeddings(model_name=model, model_kwargs={"device": "cpu"}, **options)
        self._store: Any = None

    def new(self) -> None:
        self._store = None

    def _create(self) -> Any:
        from langchain_qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient, models

        client = QdrantClient(":memory:")
        client.create_collection(NAME, models.VectorParams(size=384, distance=models.Distance.COSINE))
        return QdrantVectorStore(client=client, collection_name=NAME, embedding=self._embeddings)

    def populate(self, texts: Sequence[str]) -> None:
        from langchain_core.documents import Document

        self._store = self._create()
        documents = [Document(page_content=text, metadata={"number": n}) for n, text in enumerate(texts)]
        self._store.add_documents(documents, ids=[identifier(n) for n in range(len(texts))])

    def fill(self, texts: Sequence[str], vectors: Any) -> None:
        """Past the encoder, with the payload that the store reads."""
        from qdrant_client import models

        self._store = self._create()
        for piece in pieces(texts, vectors):
            points = [
                models.PointStruct(
                    id=identifier(n), vector=row, payload={"page_content": text, "metadata": {"number": n}}
                )
                for n, text, row in piece
            ]
            self._store.client.upsert(NAME, points)

    def count(self) -> int:
        return int(self._store.client.count(NAME).count)

    def query(self, text: str, limit: int) -> list[int]:
        return [document.metadata["number"] for document in self._store.similarity_search(text, k=limit)]
