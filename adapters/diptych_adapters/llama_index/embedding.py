"""A dense slot or adapter as LlamaIndex's embedding, a sparse one as the functions that its Qdrant store takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager

from diptych.encoders import NamedEncoder
from diptych_adapters.frameworks.sources import Source, encoder_of

BATCH = 2048  # texts in one call: the encoder makes its own batches, and better ones from many texts


class DiptychEmbedding(BaseEmbedding):
    """A dense encoder for everything in LlamaIndex that takes an `embed_model`.

    Queries go through the encoder's query side, texts through its document side.

    Args:
        encoder: a slot of `source` or an adapter, by name; the only dense slot unless given.
        options: of an adapter.
        source: whose slots can be named: a config, its path, an open collection, or `Encoders`.
        model_name: its name in LlamaIndex's events; the encoder's by default.
        embed_batch_size: texts in one call, at most 2,048.
        callback_manager, num_workers, embeddings_cache, rate_limiter: as in every embedding of LlamaIndex.

    Raises:
        ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
    """

    source: str | None = Field(default=None, description="Path of the config file, if made from one.")
    encoder: str = Field(description="Name of the slot or adapter.")
    _encoder: NamedEncoder = PrivateAttr()

    def __init__(
        self,
        encoder: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        source: Source = None,
        model_name: str | None = None,
        embed_batch_size: int = BATCH,
        callback_manager: CallbackManager | None = None,
        num_workers: int | None = None,
        embeddings_cache: Any = None,  # LlamaIndex's own fields are of type Any, too
        rate_limiter: Any = None,
    ) -> None:
        named_encoder = encoder_of(source, encoder, options, "dense")
        fields: dict[str, Any] = {
            "source": str(source) if isinstance(source, str | Path) else None,
            "encoder": named_encoder.name,
            "model_name": model_name or named_encoder.name,
            "embed_batch_size": embed_batch_size,
            "callback_manager": callback_manager or CallbackManager([]),
            "num_workers": num_workers,
            "embeddings_cache": embeddings_cache,
            "rate_limiter": rate_limiter,
        }
        super().__init__(**fields)
        self._encoder = named_encoder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DiptychEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return _lists(self._encoder.encode_query([query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _lists(self._encoder.encode_document(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _lists(vectors: Sequence[Any]) -> list[list[float]]:
    return [vector.tolist() for vector in vectors]


Weights: TypeAlias = tuple[list[list[int]], list[list[float]]]  # term ids and weights, a list of each for every text
SparseFunction: TypeAlias = Callable[[list[str]], Weights]


def sparse_doc_fn(
    encoder: str | None = None, *, options: Mapping[str, Any] | None = None, source: Source = None
) -> SparseFunction:
    """What `QdrantVectorStore(enable_hybrid=True, sparse_doc_fn=...)` takes: texts in, weights of documents out.

    Args:
        encoder, options, source: as in `DiptychEmbedding`, of a sparse slot or adapter.

    Raises:
        ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
    """
    named_encoder = encoder_of(source, encoder, options, "sparse")
    return lambda texts: _weights(named_encoder.encode_document(texts))


def sparse_query_fn(
    encoder: str | None = None, *, options: Mapping[str, Any] | None = None, source: Source = None
) -> SparseFunction:
    """The argument of `QdrantVectorStore(enable_hybrid=True, sparse_query_fn=...)`; see `sparse_doc_fn`."""
    named_encoder = encoder_of(source, encoder, options, "sparse")
    return lambda texts: _weights(named_encoder.encode_query(texts))


def _weights(vectors: Sequence[Any]) -> Weights:
    return [vector.indices.tolist() for vector in vectors], [vector.values.tolist() for vector in vectors]
