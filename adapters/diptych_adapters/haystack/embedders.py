"""Embedders for any dense encoder, in the place of Haystack's own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
from haystack import Document, component

from diptych_adapters.haystack.embedder_base import DocumentEmbedding, Embedding, checked_query


@component
class DiptychTextEmbedder(Embedding):
    """Encodes a query with any dense slot or adapter: text in, `embedding` out.

    Raises when it runs:
        TypeError: the query is not text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind, default_encoder = "dense", "sentence-transformers"

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a query."""
        (vector,) = self.encoder.encode_query([checked_query(text)])
        return {"embedding": np.asarray(vector).tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.run, text)


@component
class DiptychDocumentEmbedder(DocumentEmbedding):
    """Adds vectors of any dense slot or adapter to documents; the input documents are not changed.

    Raises when it runs:
        UnusableDocument: one is not a document, or has no text.
        ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
    """

    kind, default_encoder = "dense", "sentence-transformers"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with its `embedding`."""
        vectors = self.encoder.encode_document(self._texts(documents))
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=np.asarray(vector).tolist()) for document, vector in pairs]}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.run, documents)
