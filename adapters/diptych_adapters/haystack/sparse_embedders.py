"""Embedders for any sparse encoder: learned lexicons, and BM25 with a configured average length."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from haystack import Document, component
from haystack.dataclasses import SparseEmbedding

from diptych import SparseVector
from diptych_adapters.haystack.embedder_base import DocumentEmbedding, Embedding, checked_query


@component
class DiptychSparseTextEmbedder(Embedding):
    """A query's term weights, of any sparse slot or adapter: the text goes in, `sparse_embedding` comes out.

    Raises when it runs:
        TypeError: the query is not text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind, default_encoder = "sparse", "sentence-transformers-sparse"

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """The term weights of a query."""
        (vector,) = self.encoder.encode_query([checked_query(text)])
        return {"sparse_embedding": _sparse(vector)}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.run, text)


@component
class DiptychSparseDocumentEmbedder(DocumentEmbedding):
    """Documents with their term weights, of any sparse slot or adapter; those that come in are left as they are.

    Raises when it runs:
        UnusableDocument: one is not a document, or has no text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors; one that needs statistics of the corpus,
            as `bm25`, has none here: give it options such as `{"average_length": 40}`.
    """

    kind, default_encoder = "sparse", "sentence-transformers-sparse"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with its `sparse_embedding`."""
        vectors = self.encoder.encode_document(self._texts(documents))
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, sparse_embedding=_sparse(vector)) for document, vector in pairs]}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.run, documents)


def _sparse(vector: object) -> SparseEmbedding:
    assert isinstance(vector, SparseVector), "sparse encoders make sparse vectors"
    return SparseEmbedding(indices=vector.indices.tolist(), values=vector.values.tolist())
