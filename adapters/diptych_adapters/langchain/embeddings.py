"""`DiptychEmbeddings`: a dense encoder as LangChain's `Embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from diptych_adapters.langchain.named_encoder import Named


class DiptychEmbeddings(Named, Embeddings):
    """A dense slot or adapter, wherever LangChain takes `Embeddings`, such as `QdrantVectorStore(embedding=...)`.

        DiptychEmbeddings.open("diptych.yaml", "dense")
        DiptychEmbeddings.of("sentence-transformers", {"model": "all-MiniLM-L6-v2"})
        DiptychEmbeddings(collection.encoders, "dense")

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no dense vectors.
    """

    kind = "dense"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _lists(self.encoder.encode_document(texts))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _lists(self.encoder.encode_query([text]))[0]


def _lists(vectors: Sequence[Any]) -> list[list[float]]:
    lists: list[list[float]] = np.stack(vectors).tolist() if vectors else []
    return lists
