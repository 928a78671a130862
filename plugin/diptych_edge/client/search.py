"""Reads points, and runs queries: one, many at once, between sampled points, or in groups, which Edge has none of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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

UNNARROWED_LIMIT = 1000  # points that are looked through before groups are searched one by one
Ask = Callable[[models.Filter, int], list[models.ScoredPoint]]  # the best so many points that pass a filter


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
    _require_at_least(1, limit=request.limit)
    _require_at_least(0, offset=request.offset)
    if getattr(request, "shard_key", None) is not None:
        raise unsupported("shard keys", got=repr(request.shard_key))
    _check_parts(request)


def _check_parts(request: models.QueryRequest | models.Prefetch) -> None:
    query, prefetch = request.query, request.prefetch
    if query is None and prefetch:
        raise SearchError("prefetches need a query that merges them", do="add a query, such as models.RrfQuery")
    if query is None and request.score_threshold is not None:
        raise SearchError("a score threshold needs a query", do="leave it out")
    if isinstance(query, models.RrfQuery):
        _require_at_least(1, **{"the k of an RRF": query.rrf.k})
    for item in prefetch if isinstance(prefetch, list) else [prefetch] if prefetch else []:
        _require_at_least(1, **{"the limit of a prefetch": item.limit})
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
        _require_at_least(1, limit=limit)

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
        _require_at_least(1, limit=limit)
        shard = self._find(collection_name).shard
        response = shard.read(
            lambda edge_shard: edge_shard.facet(edge.FacetRequest(key, limit, exact, edge_filter(facet_filter)))
        )
        return models.FacetResponse(
            hits=[
                models.FacetValueHit(value=str(v) if isinstance(v := hit.value, UUID) else v, count=hit.count)
                for hit in response.hits
            ]
        )


def _canonical_id(identifier: models.ExtendedPointId) -> models.ExtendedPointId:
    """An id in the spelling of answers."""
    if isinstance(identifier, int):
        return identifier
    return str(identifier if isinstance(identifier, UUID) else UUID(identifier))


def _require_at_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < least:
            raise SearchError(f"{name} is too small", got=number, expected=f"{least} or more")


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
        _require_at_least(1, limit=limit)
        _require_at_least(2, sample=sample)
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


class Grouping(SearchPoints, ReadPoints):
    """The part of EdgeClient that searches groups."""

    def query_points_groups(
        self,
        collection_name: str,
        group_by: str,
        query: Any = None,
        using: str | None = None,
        prefetch: models.Prefetch | list[models.Prefetch] | None = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int = 10,
        group_size: int = 3,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        with_lookup: models.WithLookupInterface | None = None,
        lookup_from: models.LookupLocation | None = None,
        **kwargs: Any,
    ) -> models.GroupsResult:
        """The best `limit` groups by their best point, with up to `group_size` points of each."""
        check_arguments("query_points_groups", kwargs)
        _require_at_least(1, limit=limit, group_size=group_size)
        request = models.QueryRequest.model_construct(
            query=query,
            using=using,
            prefetch=with_wider_prefetches(prefetch, group_size),
            filter=query_filter,
            params=search_params,
            with_payload=[group_by],  # `_complete` reads the rest, of the points that are shown
            with_vector=False,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        groups = Groups(group_by, limit, group_size)
        collect(
            groups, self._ask(collection_name, request), narrow=not prefetch and getattr(query, "mmr", None) is None
        )
        self._complete(collection_name, groups, with_payload, with_vectors)
        result = groups.result()
        if with_lookup is not None:
            self._look_up(result, with_lookup)
        return models.GroupsResult(groups=result)

    def _ask(self, collection_name: str, request: models.QueryRequest) -> Ask:
        """Runs `request` with a further filter and another limit."""

        def ask(further: models.Filter, limit: int) -> list[models.ScoredPoint]:
            combined = further if request.filter is None else models.Filter(must=[request.filter, further])
            narrowed = request.model_copy(update={"filter": combined, "limit": limit})
            return self._query_all(collection_name, [narrowed])[0].points

        return ask

    def _complete(self, collection_name: str, groups: Groups, with_payload: Any, with_vectors: Any) -> None:
        """Fetch the payloads and vectors that the answer shows."""
        ids = list({point.id for point in groups.points()})
        records = {r.id: r for r in self.retrieve(collection_name, ids, with_payload, with_vectors)}
        for point in groups.points():
            record = records[point.id]
            point.payload, point.vector = record.payload, record.vector

    def _look_up(self, groups: list[models.PointGroup], with_lookup: models.WithLookupInterface) -> None:
        lookup = (
            with_lookup if isinstance(with_lookup, models.WithLookup) else models.WithLookup(collection=with_lookup)
        )
        payload = True if lookup.with_payload is None else lookup.with_payload
        for group in groups:
            records = self.retrieve(lookup.collection, [group.id], payload, lookup.with_vectors)
            group.lookup = records[0] if records else None


class Groups:
    """The first `limit` groups of ranked points, each with its first `size` points."""

    def __init__(self, key: str, limit: int, size: int) -> None:
        self.key, self._path, self.limit, self.size = key, key.split("."), limit, size
        self._groups: dict[models.GroupId, list[models.ScoredPoint]] = {}

    def clear(self) -> None:
        """Forget all groups."""
        self._groups = {}

    def add(self, ranked: Iterable[models.ScoredPoint]) -> int:
        """Sort further points in, worse than all before; returns the number of new groups."""
        before = len(self._groups)
        for point in ranked:
            for value in _group_ids(point.payload, self._path):
                if value not in self._groups and len(self._groups) < self.limit:
                    self._groups[value] = []
                self._add(value, point)
        return len(self._groups) - before

    def refill(self, ranked: Iterable[models.ScoredPoint], values: Iterable[models.GroupId]) -> None:
        """Replace the points of these groups by the first ones of `ranked` that belong to them."""
        self._groups.update({value: [] for value in values})
        for point in ranked:
            for value in _group_ids(point.payload, self._path):
                if value in values:
                    self._add(value, point)

    @property
    def complete(self) -> bool:
        """Whether all groups are known, full or not."""
        return len(self._groups) >= self.limit

    def known(self) -> list[models.GroupId]:
        """The groups found so far."""
        return list(self._groups)

    def lacking(self) -> list[models.GroupId]:
        """The groups that are not full."""
        return [value for value, hits in self._groups.items() if len(hits) < self.size]

    def points(self) -> Iterator[models.ScoredPoint]:
        """All points in the groups."""
        return (point for hits in self._groups.values() for point in hits)

    def result(self) -> list[models.PointGroup]:
        """The groups, best first."""
        return [models.PointGroup.model_construct(id=name, hits=hits) for name, hits in self._groups.items()]

    def _add(self, value: models.GroupId, point: models.ScoredPoint) -> None:
        hits = self._groups.get(value)
        if hits is not None and len(hits) < self.size:
            hits.append(point)


def collect(groups: Groups, ask: Ask, *, narrow: bool) -> None:
    """Fill `groups` with the best points of the best groups.

    Args:
        groups: empty ones.
        ask: gives the best points that pass a further filter.
        narrow: whether a filter leaves the rest of the ranking unchanged, which it does not in fusions.
    """
    limit, empty = groups.limit * groups.size * 2, models.IsEmptyCondition(is_empty=models.PayloadField(key=groups.key))
    while True:
        points = ask(models.Filter(must_not=[empty]), limit)
        groups.clear()
        groups.add(points)
        if (groups.complete and not groups.lacking()) or len(points) < limit:
            return
        # From here on missing groups are searched by filters, unless a filter would change the ranking.
        if narrow and limit >= UNNARROWED_LIMIT:
            break
        limit *= 4
    while not groups.complete:  # points outside the known groups
        outside = models.Filter(must_not=[empty, *_any_of(groups.key, groups.known())])
        if not groups.add(ask(outside, limit)):
            break
    while lacking := groups.lacking():
        points = ask(models.Filter(should=_any_of(groups.key, lacking)), limit)
        groups.refill(points, lacking)
        if len(points) < limit:
            return
        limit *= 4


def _any_of(key: str, values: list[models.GroupId]) -> list[models.Condition]:
    """Conditions that hold when `key` has one of `values`."""
    # One match takes texts or integers, not both.
    kinds: list[Any] = [[v for v in values if isinstance(v, str)], [v for v in values if isinstance(v, int)]]
    return [models.FieldCondition(key=key, match=models.MatchAny(any=kind)) for kind in kinds if kind]


def with_wider_prefetches(prefetch: Any, factor: int) -> Any:
    """The prefetches with `factor` times their limits, as a server does for groups."""
    if prefetch is None:
        return None
    if isinstance(prefetch, list):
        return [with_wider_prefetches(item, factor) for item in prefetch]
    limit = (10 if prefetch.limit is None else prefetch.limit) * factor
    return prefetch.model_copy(update={"limit": limit, "prefetch": with_wider_prefetches(prefetch.prefetch, factor)})


def _group_ids(payload: Any, path: list[str]) -> list[models.GroupId]:
    """The groups of a point: none when a value is neither text nor an integer, as on a server."""
    values = list(_values(payload, path))
    if any(type(value) not in (int, str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield from value if isinstance(value, list) else [value]
        return
    name, every_item = path[0].removesuffix("[]"), path[0].endswith("[]")
    if not isinstance(value, dict) or name not in value:
        return
    inner = value[name]
    for item in inner if every_item and isinstance(inner, list) else [inner]:
        yield from _values(item, path[1:])
