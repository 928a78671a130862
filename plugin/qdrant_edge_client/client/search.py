"""Runs queries, one or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from qdrant_edge_client.client.base import EdgeBase
from qdrant_edge_client.client.unsupported import check_arguments, unsupported
from qdrant_edge_client.convert import answers
from qdrant_edge_client.convert.queries import Lookup, edge_request
from qdrant_edge_client.convert.query_vectors import Examples
from qdrant_edge_client.engine.shard import Shard
from qdrant_edge_client.errors import SearchError
from qdrant_edge_client.unchecked import unchecked


class SearchPoints(EdgeBase):
    """The part of EdgeClient that searches."""

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: models.Prefetch | list[models.Prefetch] | None = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int = 10,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: models.LookupLocation | None = None,
        **kwargs: Any,
    ) -> QueryResponse:
        """The best points for one query of any kind.

        Raises:
            SearchError: a query that cannot be run as asked.
            StoreUnsupported: a query that only a server can answer.
        """
        check_arguments("query_points", kwargs)
        request = _request(
            {
                "shard_key": None,
                "prefetch": prefetch,
                "query": query,
                "using": using,
                "filter": query_filter,
                "params": search_params,
                "score_threshold": score_threshold,
                "limit": limit,
                "offset": offset,
                "with_vector": with_vectors,
                "with_payload": with_payload,
                "lookup_from": lookup_from,
            }
        )
        return self._query_all(collection_name, [request])[0]

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], **kwargs: Any
    ) -> list[QueryResponse]:
        """The best points for each query; all queries share one pass over the segments."""
        check_arguments("query_batch_points", kwargs)
        return self._query_all(collection_name, requests)

    def _query_all(self, collection_name: str, requests: Sequence[models.QueryRequest]) -> list[QueryResponse]:
        for request in requests:
            _check(request)
        shard = self._find(collection_name).shard
        point_lists = shard.read(lambda edge_shard: _answer(edge_shard, requests, self._lookup(edge_shard, shard)))
        return [answers.query_response(points) for points in point_lists]

    def _lookup(self, edge_shard: Any, shard: Shard) -> Lookup:
        """Finds the examples of a query in the searched collection, or in the one of `lookup_from`."""

        def lookup(using: str | None, location: models.LookupLocation | None) -> Examples:
            if location is None:
                return Examples(
                    lambda identifier: _vector_of(edge_shard, identifier, using or ""), same_collection=True
                )
            if location.shard_key is not None:
                raise unsupported("shard keys", got=repr(location.shard_key))
            name = using or "" if location.vector is None else location.vector
            other = self._find(location.collection).shard
            return Examples(
                lambda identifier: other.read(lambda other_edge_shard: _vector_of(other_edge_shard, identifier, name)),
                same_collection=other is shard,
            )

        return lookup


def _answer(edge_shard: Any, requests: Sequence[models.QueryRequest], lookup: Lookup) -> list[Any]:
    edge_requests = [edge_request(request, lookup) for request in requests]
    if len(edge_requests) == 1:
        return [edge_shard.query(edge_requests[0])]
    answer: list[Any] = edge_shard.query_batch(edge.QueryBatchRequest(edge_requests)) if edge_requests else []
    return answer


def _vector_of(edge_shard: Any, identifier: models.ExtendedPointId, name: str) -> Any:
    records = edge_shard.retrieve([identifier], False, [name])
    if not records:
        raise SearchError(f"there is no point {identifier}", do="query by a vector, or by the id of a stored point")
    vectors = records[0].vector
    vector = vectors.get(name) if isinstance(vectors, dict) else vectors
    if vector is None:
        raise SearchError(f"point {identifier} has no vector {name!r}", do="name one that it has with `using`")
    return vector


def _check(request: models.QueryRequest) -> None:
    """Refuse what Edge would ignore or report less clearly."""
    if request.limit is not None and request.limit < 1:
        raise SearchError("limit is too small", got=request.limit, expected="1 or more")
    if request.offset is not None and request.offset < 0:
        raise SearchError("offset is negative", got=request.offset, expected="0 or more")
    if getattr(request, "shard_key", None) is not None:
        raise unsupported("shard keys", got=repr(request.shard_key))
    _check_parts(request)


def _check_parts(request: models.QueryRequest | models.Prefetch) -> None:
    query, prefetch = request.query, request.prefetch
    if query is None and prefetch:
        raise SearchError("prefetches need a query that merges them", do="add a query, such as models.RrfQuery")
    if query is None and request.score_threshold is not None:
        raise SearchError("a score threshold needs a query", do="leave it out")
    if isinstance(query, models.RrfQuery) and query.rrf.k is not None and query.rrf.k < 1:
        raise SearchError("the k of an RRF is too small", got=query.rrf.k, expected="1 or more")
    for item in prefetch if isinstance(prefetch, list) else [prefetch] if prefetch else []:
        if item.limit is not None and item.limit < 1:
            raise SearchError("the limit of a prefetch is too small", got=item.limit, expected="1 or more")
        _check_parts(item)


_request = unchecked(models.QueryRequest)
