"""`Request`: a `VectorStoreQuery` as a search of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from qdrant_client import models

from diptych.errors import SearchError
from diptych.search import Diversify, Linear, Pipeline, Retrieve
from diptych_adapters.frameworks.sources import Opened
from diptych_adapters.llama_index.filters import qdrant_filter

CANDIDATES = 100  # from which maximal marginal relevance chooses, at least
_LEXICAL = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)
_SUPPORTED = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR, *_LEXICAL)
_EXTRA = ("mmr_threshold", "qdrant_filters", "search_params")


@dataclass(frozen=True, slots=True)
class Request:
    """A checked query. `stages` is None for the collection's pipeline, `text` if there is only a vector."""

    text: str | None
    vector: list[float] | None
    stages: Pipeline | Retrieve | None
    limit: int
    filter: models.Filter | None
    params: models.SearchParams | None

    @classmethod
    def of(cls, collection: Opened, query: VectorStoreQuery, extra: Mapping[str, Any]) -> Request:
        """From LlamaIndex's query and the `vector_store_kwargs` that came with it.

        Raises:
            SearchError: a mode, filter or further argument that cannot be served, or neither text nor vector.
        """
        _require_supported(query, extra)
        filter = extra.get("qdrant_filters") or qdrant_filter(
            collection, query.filters, sources=query.doc_ids, ids=query.node_ids
        )
        text = query.query_str or None
        stages = _stages(collection, query, extra.get("mmr_threshold"), of_text=text is not None)
        params = extra.get("search_params")
        params = models.SearchParams(**params) if isinstance(params, dict) else params
        return cls(text, query.query_embedding, stages, _limit(query), filter, params)


def _stages(
    collection: Opened, query: VectorStoreQuery, threshold: float | None, *, of_text: bool
) -> Pipeline | Retrieve | None:
    mode, limit = query.mode, query.similarity_top_k
    if mode is VectorStoreQueryMode.MMR:
        slot, candidates = _slot(collection, "dense"), max(CANDIDATES, 4 * limit)
        relevance = threshold if threshold is not None else query.mmr_threshold
        return Retrieve(slot, candidates) >> Diversify(slot, 0.5 if relevance is None else relevance, candidates)
    if mode in _LEXICAL:
        return Retrieve(_slot(collection, "sparse", "text_index"))
    if mode is VectorStoreQueryMode.HYBRID and query.alpha is not None:
        return _weighted(collection, query, query.alpha)
    return None if of_text else Retrieve(_slot(collection, "dense"))


def _weighted(collection: Opened, query: VectorStoreQuery, alpha: float) -> Pipeline:
    """LlamaIndex's relative score fusion: min-max scores, weight `alpha` for dense ones, the rest for the others."""
    dense, lexical = _slot(collection, "dense"), _slot(collection, "sparse", "text_index")
    branches = Retrieve(dense, query.similarity_top_k) + Retrieve(lexical, query.sparse_top_k or query.similarity_top_k)
    return branches >> Linear("minmax", {dense: alpha, lexical: 1 - alpha})


def _limit(query: VectorStoreQuery) -> int:
    if query.mode is VectorStoreQueryMode.HYBRID:
        return query.hybrid_top_k or query.similarity_top_k
    return (query.sparse_top_k if query.mode in _LEXICAL else None) or query.similarity_top_k


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
