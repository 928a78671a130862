"""`DiptychVectorStore`: a collection as LlamaIndex's vector store."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from qdrant_client import models

from diptych import Document, Hit
from diptych.errors import CollectionError, SearchError
from diptych.search import Diversify, Linear, Pipeline, Retrieve
from diptych_adapters.frameworks import Content, Opened, Reads, collection_of, fill, in_thread
from diptych_adapters.llama_index.nodes import hit_to_node, is_llama_index_own, qdrant_filter, to_document, to_node

CANDIDATES = 100  # from which maximal marginal relevance chooses, at least
_LEXICAL = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)
_SUPPORTED = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR, *_LEXICAL)
_EXTRA = ("mmr_threshold", "qdrant_filters", "search_params")

_EMBEDDINGS_UNUSED = (
    "nodes came with embeddings, which DiptychVectorStore does not use: it encodes what is new by itself. "
    "Give the index embed_model=store.embed_model, and nothing is encoded twice."
)


class DiptychVectorStore(BasePydanticVectorStore):
    """A collection that LlamaIndex fills and queries.

    The store encodes new nodes itself, in each slot, so give the index `embed_model=store.embed_model`. Query texts go
    through the collection's whole pipeline, fusion and rerankers included.

    Args:
        source: an open collection or one tenant's view of it, or the path of a config file.
        content: what the nodes of a query hold: "document", or "passage", the best passage alone, as in
            `DiptychRetriever`.

    Raises:
        ConfigError, StoreError, CollectionError: as `Collection.open`.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    flat_metadata: bool = False
    _collection: Opened = PrivateAttr()
    _content: Content = PrivateAttr()

    def __init__(self, source: str | Path | Opened, *, content: Content = "document") -> None:
        super().__init__(stores_text=True)
        self._collection, self._content = collection_of(source), content

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DiptychVectorStore"

    @property
    def client(self) -> Any:
        """The Qdrant client, which does not limit anything to the tenant."""
        return self._collection.client

    @property
    def collection(self) -> Opened:
        """The collection, or the tenant's view of it."""
        return self._collection

    @property
    def embed_model(self) -> BaseEmbedding:
        """The `embed_model` for an index over this store: it leaves encoding to the store."""
        return DeferredEmbedding()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes; unchanged ones are neither encoded nor written. Returns their ids, in order.

        Raises:
            DocumentError: nodes that cannot be indexed, such as empty ones; the others are in.
            CollectionError: LlamaIndex's own store filled the collection, and goes on writing it.
            PopulateError, ContractError: see `Collection.populate`.
        """
        _require_none(kwargs, "add")
        if any(node.embedding for node in nodes):
            warnings.warn(_EMBEDDINGS_UNUSED, stacklevel=2)
        if is_llama_index_own(self._collection):
            raise CollectionError(
                "LlamaIndex's own store filled this collection, and its nodes lie there in another form",
                where=f"collection {self._collection.name!r}",
                do="add with QdrantVectorStore and DiptychEmbedding; search, read and delete here",
            )
        reads = Reads.of(self._collection)
        fill(self._collection, (to_document(node, reads) for node in nodes), noun="nodes")
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that were split from this document."""
        _require_none(delete_kwargs, "delete")
        self._delete(self._collection.documents(qdrant_filter(self._collection, None, sources=[ref_doc_id])))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes with these ids that match the filters.

        Raises:
            CollectionError: neither ids nor filters are given.
        """
        _require_none(delete_kwargs, "delete_nodes")
        if node_ids is None and (filters is None or not filters.filters):
            raise CollectionError("which nodes are to be deleted?", do="name ids or filters; clear() deletes all")
        self._delete(self._selected(node_ids, filters))

    def clear(self) -> None:
        """Delete all nodes, of a tenant only its own. The collection, its encoders and statistics stay."""
        self._delete(self._collection.documents())

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids, in their order, that match the filters; all nodes for None and None."""
        reads = Reads.of(self._collection)
        return [to_node(document, reads) for document in self._selected(node_ids, filters)]

    # mypy takes the base class's `self` for what overrides its methods
    async_add, adelete = in_thread(add), in_thread(delete)  # type: ignore[arg-type]
    adelete_nodes, aclear, aget_nodes = in_thread(delete_nodes), in_thread(clear), in_thread(get_nodes)  # type: ignore[arg-type]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer, best first; none before the first node is added.

        Args:
            query: with `query_str`, whose words go through the collection's pipeline, or a `query_embedding` of the
                first dense slot's space.
            kwargs: `vector_store_kwargs` of LlamaIndex's retriever: `mmr_threshold`, `qdrant_filters`, `search_params`.

        Raises:
            SearchError: the request cannot be searched.
        """
        if not self._exists():
            return self._result([])
        options = self._options(query, kwargs)
        if query.query_str:
            return self._result(self._collection.search(query.query_str, **options))
        vector, stages = query.query_embedding or [], options.pop("pipeline")
        return self._result(self._collection.search_by_vector(vector, stages, **options))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` without blocking the event loop. Queries that arrive at the same time are answered together."""
        if not await asyncio.to_thread(self._exists):
            return self._result([])
        if not query.query_str:
            return await asyncio.to_thread(self.query, query, **kwargs)
        options = await asyncio.to_thread(self._options, query, kwargs)
        return self._result(await self._collection.asearch(query.query_str, **options))

    def _result(self, hits: Sequence[Hit]) -> VectorStoreQueryResult:
        reads = Reads.of(self._collection)
        nodes = [hit_to_node(hit, self._content, {}, reads) for hit in hits]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[hit.score for hit in hits], ids=[node.node_id for node in nodes]
        )

    def _exists(self) -> bool:
        """Whether the collection exists: before the first node is added nothing is found."""
        return self._collection.client.collection_exists(self._collection.name)

    def _options(self, query: VectorStoreQuery, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the collection's search, from LlamaIndex's query and the `vector_store_kwargs` beside it.

        Raises:
            SearchError: a mode, filter or further argument that cannot be served, or neither text nor vector.
        """
        _require_supported(query, extra)
        collection, params = self._collection, extra.get("search_params")
        limit = (query.sparse_top_k if query.mode in _LEXICAL else None) or query.similarity_top_k
        if query.mode is VectorStoreQueryMode.HYBRID:
            limit = query.hybrid_top_k or limit
        return {
            "limit": limit,
            "filter": extra.get("qdrant_filters")
            or qdrant_filter(collection, query.filters, sources=query.doc_ids, ids=query.node_ids),
            "pipeline": _stages(collection, query, extra.get("mmr_threshold")),
            "params": models.SearchParams(**params) if isinstance(params, dict) else params,
        }

    def _selected(self, ids: list[str] | None, filters: MetadataFilters | None) -> Iterable[Document]:
        if filters is None or not filters.filters:
            return self._collection.documents() if ids is None else self._collection.get(ids)
        if ids is not None and not ids:
            return []
        documents = self._collection.documents(qdrant_filter(self._collection, filters, ids=ids))
        if ids is None:
            return documents
        by_id = {document.id: document for document in documents}
        return [by_id[identifier] for identifier in dict.fromkeys(ids) if identifier in by_id]

    def _delete(self, documents: Iterable[Document]) -> None:
        self._collection.delete([document.id for document in documents])


def _require_none(arguments: dict[str, Any], method: str) -> None:
    """Refuse further arguments, which LlamaIndex would pass through without checking."""
    if arguments:
        raise CollectionError("unknown arguments", where=f"DiptychVectorStore.{method}", got=", ".join(arguments))


# `DeferredEmbedding`: the `embed_model` of an index whose store encodes by itself.


class DeferredEmbedding(BaseEmbedding):
    """Leaves nodes without vectors, so that `DiptychVectorStore` encodes new ones, in each of its slots.

    LlamaIndex asks its `embed_model` for the vectors of all nodes before the store sees them. An encoder there would
    encode nodes that the collection already has, and new ones twice.
    """

    model_name: str = "deferred to the store"

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DeferredEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return []

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return []

    def _get_query_embedding(self, query: str) -> list[float]:
        raise SearchError(
            "the embed_model of a DiptychVectorStore makes no vectors",
            where="DeferredEmbedding",
            got="a query to encode",
            expected="queries in words: the store encodes them",
            do="where vectors are needed, use DiptychEmbedding",
        )

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def _stages(collection: Opened, query: VectorStoreQuery, threshold: float | None) -> Pipeline | Retrieve | None:
    """The stages of the query's mode; None for the collection's own pipeline."""
    mode, limit = query.mode, query.similarity_top_k
    if mode is VectorStoreQueryMode.MMR:
        slot, candidates = _slot(collection, "dense"), max(CANDIDATES, 4 * limit)
        relevance = threshold if threshold is not None else query.mmr_threshold
        return Retrieve(slot, candidates) >> Diversify(slot, 0.5 if relevance is None else relevance, candidates)
    if mode in _LEXICAL:
        return Retrieve(_slot(collection, "sparse", "text_index"))
    if mode is VectorStoreQueryMode.HYBRID and query.alpha is not None:
        # LlamaIndex's relative score fusion: min-max scores, weight `alpha` for dense ones, the rest for the others.
        dense, lexical = _slot(collection, "dense"), _slot(collection, "sparse", "text_index")
        branches = Retrieve(dense, limit) + Retrieve(lexical, query.sparse_top_k or limit)
        return branches >> Linear("minmax", {dense: query.alpha, lexical: 1 - query.alpha})
    return None if query.query_str else Retrieve(_slot(collection, "dense"))


def _slot(collection: Opened, *kinds: Any) -> str:
    """The first slot of these kinds."""
    slots = collection.encoders.of_kind(*kinds, with_passages=True)
    if not slots:
        raise SearchError(
            "the query mode needs a slot that the collection does not have",
            where=f"collection {collection.name!r}",
            got=", ".join(collection.encoders.names),
            expected=f"a {' or '.join(kind.replace('_', ' ') for kind in kinds)} slot",
        )
    return slots[0]


def _require_supported(query: VectorStoreQuery, extra: Mapping[str, Any]) -> None:
    if query.mode not in _SUPPORTED:
        expected = ", ".join(mode.value for mode in _SUPPORTED)
        raise SearchError("unsupported query mode", got=getattr(query.mode, "value", query.mode), expected=expected)
    if unknown := [name for name in extra if name not in _EXTRA]:
        raise SearchError("unknown vector_store_kwargs", got=", ".join(unknown), expected=", ".join(_EXTRA))
    vector_suffices = query.mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
    if not query.query_str and not (vector_suffices and query.query_embedding):
        expected = "query_str, or query_embedding" if vector_suffices else "query_str"
        raise SearchError("the query holds nothing to search for", where=f"mode {query.mode.value}", expected=expected)
