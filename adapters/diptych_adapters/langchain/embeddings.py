"""Encoders as LangChain's `Embeddings` (dense) and langchain-qdrant's `SparseEmbeddings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector

from diptych.encoders import Encoders


class Named:
    """An encoder of one kind.

    Args:
        encoders: of a config, of an open collection (`collection.encoders`), or of the installed adapters.
        name: of a slot or an adapter.
        options: of the adapter.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it is of another kind.
    """

    kind: ClassVar[Literal["dense", "sparse"]]

    def __init__(self, encoders: Encoders, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.encoder = encoders.with_options(name, options or {}).required(self.kind)

    @classmethod
    def open(cls, config: str | Path, slot: str) -> Self:
        """The encoder of a slot of a config file; the store is not opened.

        Raises:
            ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return cls(Encoders.open(config), slot)

    @classmethod
    def of(cls, adapter: str, options: Mapping[str, Any] | None = None) -> Self:
        """The encoder of an installed adapter, with its options.

        Raises:
            UnknownAdapter, AdapterOptionsError: see diptych.errors.
        """
        return cls(Encoders.open(), adapter, options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder.name!r})"


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


class DiptychSparseEmbeddings(Named, SparseEmbeddings):
    """A sparse slot or adapter, for `QdrantVectorStore(sparse_embedding=...)` in its sparse and hybrid modes.

        DiptychSparseEmbeddings.of("bm25", {"average_length": 60})

    `bm25` needs the option `average_length` here, since nobody measures the corpus; and Qdrant must multiply by IDF:
    `sparse_vector_params={"modifier": models.Modifier.IDF}`.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no sparse vectors.
    """

    kind = "sparse"

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors; bm25 that does not know the average length.
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
