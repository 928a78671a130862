"""A collection's pipeline as LlamaIndex's retriever, and any reranker as its node postprocessor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import IndexNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from qdrant_client import models

from diptych import Hit, Query, Reranker
from diptych.encoders import NamedEncoder
from diptych.errors import SearchError
from diptych.search import SearchOptions, check_options
from diptych_adapters.frameworks import (
    Content,
    Opened,
    Reads,
    Source,
    collection_of,
    encoder_of,
    encoders_of,
    explanations,
    float_lists,
    in_thread,
    ranked,
)
from diptych_adapters.llama_index.nodes import hit_to_node, qdrant_filter

BATCH = 2048  # texts in one call: the encoder makes its own batches, and better ones from many texts

Weights: TypeAlias = tuple[list[list[int]], list[list[float]]]  # term ids and weights, a list of each for every text
SparseFunction: TypeAlias = Callable[[list[str]], Weights]


class DiptychRetriever(BaseRetriever):
    """Nodes that answer a query, best first, whoever filled the collection.

    A query is a text, or `QueryBundle("", image_path="lame.png")` with a picture, beside a text or alone.

    A node's score is that of the last stage. `node.metadata["diptych"]["stages"]` has the score of each stage, and
    `["explanation"]`, with `explain`, the explanation as JSON values. Where a slot has passages, `["passages"]` has
    text, start, end and score of each, best first; with `highlight`, `["highlight"]` has `sentence`, as a passage, and
    `words`, begin and end of each in the document's text.

    Args:
        source: an open collection or one tenant's view of it, or the path of a config file.
        similarity_top_k: nodes a query returns; the config's limit unless given.
        filters: LlamaIndex's metadata filters, or Qdrant's own filter.
        explain: whether each node's metadata explains its rank, which costs a few more requests.
        content: what a node holds: "document", or "passage", the best passage alone, as prompts want it. Its source is
            the document, `start_char_idx` and `end_char_idx` are its place there, and `["passage"]` says the same.
        callback_manager, object_map, objects, verbose: as in every retriever of LlamaIndex.
        options: as in `Collection.search`.

    Raises:
        ConfigError, StoreError, CollectionError: as `Collection.open`.
        SearchError: a filter that Qdrant cannot answer.
    """

    def __init__(
        self,
        source: str | Path | Opened,
        *,
        similarity_top_k: int | None = None,
        filters: MetadataFilters | models.Filter | None = None,
        explain: bool = False,
        content: Content = "document",
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
        **options: Unpack[SearchOptions],
    ) -> None:
        super().__init__(callback_manager, object_map, objects, verbose)
        self._collection = collection_of(source)
        self._content, self._explain = content, explain
        own_filter = filters if isinstance(filters, models.Filter) else qdrant_filter(self._collection, filters)
        checked = check_options(options, called=type(self).__name__, without=("limit", "filter"))
        self._options: SearchOptions = {**checked, "limit": similarity_top_k, "filter": own_filter}

    @property
    def collection(self) -> Opened:
        """The collection, or the tenant's view of it."""
        return self._collection

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        return self._scored(query, self._collection.search(query, **self._options))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        hits = await self._collection.asearch(query, **self._options)
        return await asyncio.to_thread(self._scored, query, hits)

    def _scored(self, query: str | Query, hits: Sequence[Hit]) -> list[NodeWithScore]:
        reads, details = Reads.of(self._collection), [{"stages": dict[str, Any](hit.stages)} for hit in hits]
        if self._explain:
            for own, reason in zip(details, explanations(self._collection, query, hits, self._options), strict=True):
                own["explanation"] = reason
        return [
            NodeWithScore(node=hit_to_node(hit, self._content, own, reads), score=hit.score)
            for hit, own in zip(hits, details, strict=True)
        ]


def _query_of(bundle: QueryBundle) -> str | Query:
    """The bundle's text, with its picture if it has one."""
    return Query(bundle.query_str, media={"image": bundle.image_path}) if bundle.image_path else bundle.query_str


class DiptychReranker(BaseNodePostprocessor):
    """Reorders nodes by a reranker's scores, which reads what LlamaIndex gives an encoder: metadata and text.

    Args:
        reranker: name of an adapter, or an object that satisfies `diptych.Reranker`.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        top_n: nodes that are passed on; all of them unless given.
        callback_manager: as in every postprocessor of LlamaIndex.

    Raises:
        ConfigError, RegistryError: see diptych.errors.
    """

    top_n: int | None = Field(default=None, gt=0, description="Maximum nodes to return; None returns all.")
    name: str = Field(description="Name of the adapter, or of the object's class.")
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        reranker: str | Reranker,
        *,
        options: Mapping[str, Any] | None = None,
        source: Source = None,
        top_n: int | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        name = reranker if isinstance(reranker, str) else type(reranker).__name__
        super().__init__(name=name, top_n=top_n, callback_manager=callback_manager or CallbackManager([]))
        opened = encoders_of(source).reranker(reranker, options) if isinstance(reranker, str) else reranker
        self._reranker = opened

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DiptychReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            what = "a reranker needs the query"
            raise SearchError(what, where=f"DiptychReranker {self.name!r}", do="give query_str or query_bundle")
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        best = ranked(self._reranker, query_bundle.query_str, texts) if nodes else []
        return [NodeWithScore(node=nodes[place].node, score=score) for place, score in best[: self.top_n]]


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
        return float_lists(self._encoder.encode_query([query]))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return float_lists(self._encoder.encode_document(texts))

    # mypy takes the base class's `self` for what overrides its methods
    _aget_query_embedding, _aget_text_embedding = in_thread(_get_query_embedding), in_thread(_get_text_embedding)  # type: ignore[arg-type]
    _aget_text_embeddings = in_thread(_get_text_embeddings)  # type: ignore[arg-type]


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
