"""Reads points, and runs queries: one, many at once, or between sampled points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from diptych.errors import SearchError
from diptych.runtime.unchecked import unchecked
from diptych_edge.client.base import EdgeBase, check_arguments, unsupported
from diptych_edge.convert import queries
from diptych_edge.convert.queries import Examples, Lookup, edge_filter, edge_request
from diptych_edge.convert.queries import order_by as edge_order
from diptych_edge.convert.queries import with_payload as edge_payload
from diptych_edge.convert.queries import with_vector as edge_vector
from diptych_edge.engine.shard import Shard


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
        return [queries.query_response(points) for points in point_lists]

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


class ReadPoints(EdgeBase):
    """The part of EdgeClient that reads points."""

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[models.ExtendedPointId],
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> list[models.Record]:
        """The existing points among these ids, in the order given."""
        check_arguments("retrieve", kwargs)
        payload, vector, id_list = edge_payload(with_payload), edge_vector(with_vectors), list(ids)
        shard = self._find(collection_name).shard
        edge_records = shard.read(lambda edge_shard: edge_shard.retrieve(id_list, payload, vector))
        # Edge answers in its own order.
        records = {record.id: record for record in map(queries.record, edge_records)}
        return [records[key] for key in map(_canonical_id, id_list) if key in records]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: models.Filter | None = None,
        limit: int = 10,
        order_by: models.OrderBy | str | None = None,
        offset: models.ExtendedPointId | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> tuple[list[models.Record], models.ExtendedPointId | None]:
        """A page of points by id, or by a payload field that has a range index, and the offset of the next page."""
        check_arguments("scroll", kwargs)
        _check_positive(limit=limit)

        def scroll_page(edge_shard: Any) -> Any:
            request = edge.ScrollRequest(
                offset=offset,
                limit=limit,
                filter=edge_filter(scroll_filter),
                with_payload=edge_payload(with_payload),
                with_vector=edge_vector(with_vectors),
                order_by=edge_order(order_by),
            )
            return edge_shard.scroll(request)

        edge_records, next_id = self._find(collection_name).shard.read(scroll_page)
        next_offset = None if next_id is None else queries.point_id(next_id)
        return [queries.record(record) for record in edge_records], next_offset

    def count(
        self, collection_name: str, count_filter: models.Filter | None = None, exact: bool = True, **kwargs: Any
    ) -> models.CountResult:
        """Number of points, or of those that match."""
        check_arguments("count", kwargs)
        shard = self._find(collection_name).shard
        count = shard.read(lambda edge_shard: edge_shard.count(edge.CountRequest(exact, edge_filter(count_filter))))
        return models.CountResult(count=count)

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: models.Filter | None = None,
        limit: int = 10,
        exact: bool = False,
        **kwargs: Any,
    ) -> models.FacetResponse:
        """The values of a payload field that has a match index, with the number of points of each."""
        check_arguments("facet", kwargs)
        _check_positive(limit=limit)
        shard = self._find(collection_name).shard
        response = shard.read(
            lambda edge_shard: edge_shard.facet(edge.FacetRequest(key, limit, exact, edge_filter(facet_filter)))
        )
        return models.FacetResponse(
            hits=[models.FacetValueHit(value=_value(hit), count=hit.count) for hit in response.hits]
        )


def _canonical_id(identifier: models.ExtendedPointId) -> models.ExtendedPointId:
    """An id in the spelling of answers."""
    if isinstance(identifier, int):
        return identifier
    return str(identifier if isinstance(identifier, UUID) else UUID(identifier))


def _value(hit: Any) -> models.FacetValue:
    return str(hit.value) if isinstance(hit.value, UUID) else hit.value


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise SearchError(f"{name} is too small", got=number, expected="1 or more")


class Matrix(SearchPoints):
    """The part of EdgeClient that compares points with each other."""

    def search_matrix_pairs(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixPairsResponse:
        """For each of `sample` random points its `limit` nearest among them, as pairs."""
        check_arguments("search_matrix_pairs", kwargs)
        neighbours = self._nearest_of_sample(collection_name, query_filter, limit, sample, using)
        pairs = [
            models.SearchMatrixPair(a=identifier, b=point.id, score=point.score)
            for identifier, points in neighbours.items()
            for point in points
        ]
        return models.SearchMatrixPairsResponse(pairs=pairs)

    def search_matrix_offsets(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixOffsetsResponse:
        """The same as a sparse matrix: rows, columns and scores, with the ids of rows and columns."""
        check_arguments("search_matrix_offsets", kwargs)
        neighbours = self._nearest_of_sample(collection_name, query_filter, limit, sample, using)
        offsets = {identifier: offset for offset, identifier in enumerate(neighbours)}
        cells = [(row, point) for row, points in enumerate(neighbours.values()) for point in points]
        return models.SearchMatrixOffsetsResponse(
            offsets_row=[row for row, _ in cells],
            offsets_col=[offsets[point.id] for _, point in cells],
            scores=[point.score for _, point in cells],
            ids=list(neighbours),
        )

    def _nearest_of_sample(
        self, collection_name: str, query_filter: models.Filter | None, limit: int, sample: int, using: str | None
    ) -> dict[models.ExtendedPointId, list[models.ScoredPoint]]:
        if limit < 1 or sample < 2:
            raise SearchError("limit or sample is too small", got=f"{limit}, {sample}", expected="limit 1, sample 2")
        with_vector = _and(query_filter, models.HasVectorCondition(has_vector=using or ""))
        query = models.SampleQuery(sample=models.Sample.RANDOM)
        response = self.query_points(collection_name, query, query_filter=with_vector, limit=sample, with_payload=False)
        ids = sorted((point.id for point in response.points), key=lambda i: (isinstance(i, str), i))
        if len(ids) < 2:
            return {}
        sample_filter = _and(query_filter, models.HasIdCondition(has_id=ids))
        requests = [_nearest(identifier, sample_filter, limit, using) for identifier in ids]
        answers = self._query_all(collection_name, requests)
        return {identifier: answer.points for identifier, answer in zip(ids, answers, strict=True)}


def _and(query_filter: models.Filter | None, condition: Any) -> models.Filter:
    return models.Filter(must=[condition] if query_filter is None else [query_filter, condition])


def _nearest(identifier: Any, sample_filter: models.Filter, limit: int, using: str | None) -> models.QueryRequest:
    return models.QueryRequest(query=identifier, using=using, filter=sample_filter, limit=limit, with_payload=False)
