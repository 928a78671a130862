"""A sparse slot or adapter as the two functions that LlamaIndex's own Qdrant store needs for hybrid search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from diptych_adapters.llama_index.open_collection import Source, encoder_of

Weights: TypeAlias = tuple[list[list[int]], list[list[float]]]  # term ids and weights, a list of each for every text
SparseFunction: TypeAlias = Callable[[list[str]], Weights]


def sparse_doc_fn(
    config: Source = None, encoder: str | None = None, *, options: Mapping[str, Any] | None = None
) -> SparseFunction:
    """What `QdrantVectorStore(enable_hybrid=True, sparse_doc_fn=...)` takes: texts in, weights of documents out.

    Args:
        config: path of a config file, an open `Collection` or `Encoders`; None for an adapter.
        encoder: name of a sparse slot or adapter; the config's only sparse slot unless given.
        options: of the adapter. Where another program fills the collection, `bm25` needs its `average_length`.

    Raises:
        ConfigError, UnknownAdapter, AdapterOptionsError: see diptych.errors.
    """
    named_encoder = encoder_of(config, encoder, options, "sparse")
    return lambda texts: _weights(named_encoder.encode_document(texts))


def sparse_query_fn(
    config: Source = None, encoder: str | None = None, *, options: Mapping[str, Any] | None = None
) -> SparseFunction:
    """The argument of `QdrantVectorStore(enable_hybrid=True, sparse_query_fn=...)`; see `sparse_doc_fn`."""
    named_encoder = encoder_of(config, encoder, options, "sparse")
    return lambda texts: _weights(named_encoder.encode_query(texts))


def _weights(vectors: Sequence[Any]) -> Weights:
    return [vector.indices.tolist() for vector in vectors], [vector.values.tolist() for vector in vectors]
