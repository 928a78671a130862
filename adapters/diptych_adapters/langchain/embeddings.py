"""Encoders as LangChain's `Embeddings` (dense) and langchain-qdrant's `SparseEmbeddings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector

from diptych_adapters.frameworks import Source, encoder_of


class Named:
    """An encoder of one kind.

    Args:
        encoder: a slot of `source` or an adapter, by name; the only slot of the kind unless given.
        options: of an adapter.
        source: whose slots can be named: a config, its path, an open collection, or `Encoders`.

    Raises:
        ConfigError, UnknownAdapter, AdapterOptionsError: there is no such encoder, or it is of another kind.
    """

    kind: ClassVar[Literal["dense", "sparse"]]

    def __init__(
        self, encoder: str | None = None, *, options: Mapping[str, Any] | None = None, source: Source = None
    ) -> None:
        self.encoder = encoder_of(source, encoder, options, self.kind)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder.name!r})"


class DiptychEmbeddings(Named, Embeddings):
    """A dense slot or adapter, wherever LangChain takes `Embeddings`, such as `QdrantVectorStore(embedding=...)`.

        DiptychEmbeddings("dense", source="diptych.yaml")
        DiptychEmbeddings("sentence-transformers", options={"model": "all-MiniLM-L6-v2"})
        DiptychEmbeddings("dense", source=collection)

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


class DiptychSparseEmbeddings(Named, SparseEmbeddings):
    """A sparse slot or adapter, for `QdrantVectorStore(sparse_embedding=...)` in its sparse and hybrid modes.

        DiptychSparseEmbeddings("bm25")

    Qdrant must multiply the weights of `bm25` by IDF: `sparse_vector_params={"modifier": models.Modifier.IDF}`.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no sparse vectors.
    """

    kind = "sparse"

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _models(self.encoder.encode_document(texts))

    def embed_query(self, text: str) -> SparseVector:
        """The vector of a query.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _models(self.encoder.encode_query([text]))[0]


def _models(vectors: Sequence[Any]) -> list[SparseVector]:
    return [SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist()) for vector in vectors]
