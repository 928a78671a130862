"""Groups: the best points of the best groups. Edge has no groups, so they are formed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from qdrant_client import models

from diptych.errors import SearchError
from diptych_edge.client.base import check_arguments
from diptych_edge.client.search import ReadPoints, SearchPoints

UNNARROWED_LIMIT = 1000  # points that are looked through before groups are searched one by one


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
        if limit < 1 or group_size < 1:
            raise SearchError("limit or group_size is too small", got=f"{limit}, {group_size}", expected="1 or more")
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


# Points sorted into groups by a payload field.


Ask = Callable[[models.Filter, int], list[models.ScoredPoint]]  # the best so many points that pass a filter


class Groups:
    """The first `limit` groups of ranked points, each with its first `size` points."""

    def __init__(self, key: str, limit: int, size: int) -> None:
        self.key, self._path, self._limit, self._size = key, key.split("."), limit, size
        self._groups: dict[models.GroupId, list[models.ScoredPoint]] = {}

    @property
    def first_limit(self) -> int:
        """How many points to search for at first."""
        return self._limit * self._size * 2

    @property
    def full(self) -> bool:
        """Whether more points would change nothing."""
        return self.complete and not self.lacking()

    def fill(self, ranked: Iterable[models.ScoredPoint]) -> None:
        """Sort all points into groups anew, best first."""
        self._groups = {}
        self.add(ranked)

    def add(self, ranked: Iterable[models.ScoredPoint]) -> int:
        """Sort further points in, worse than all before; returns the number of new groups."""
        before = len(self._groups)
        for point in ranked:
            for value in _group_ids(point.payload, self._path):
                self._add(value, point)
        return len(self._groups) - before

    def refill(self, ranked: Iterable[models.ScoredPoint]) -> None:
        """Replace the points of all groups that are not full by the first ones of `ranked` that belong to them."""
        lacking = self.lacking()
        self._groups.update({value: [] for value in lacking})
        for point in ranked:
            for value in _group_ids(point.payload, self._path):
                if value in lacking:
                    self._add(value, point)

    @property
    def complete(self) -> bool:
        """Whether all groups are known, full or not."""
        return len(self._groups) >= self._limit

    def known(self) -> list[models.GroupId]:
        """The groups found so far."""
        return list(self._groups)

    def lacking(self) -> list[models.GroupId]:
        """The groups that are not full."""
        return [value for value, hits in self._groups.items() if len(hits) < self._size]

    def points(self) -> Iterator[models.ScoredPoint]:
        """All points in the groups."""
        return (point for hits in self._groups.values() for point in hits)

    def result(self) -> list[models.PointGroup]:
        """The groups, best first."""
        return [models.PointGroup.model_construct(id=name, hits=hits) for name, hits in self._groups.items()]

    def _add(self, value: models.GroupId, point: models.ScoredPoint) -> None:
        if value not in self._groups and len(self._groups) < self._limit:
            self._groups[value] = []
        hits = self._groups.get(value)
        if hits is not None and len(hits) < self._size:
            hits.append(point)


def collect(groups: Groups, ask: Ask, *, narrow: bool) -> None:
    """Fill `groups` with the best points of the best groups.

    Args:
        groups: empty ones.
        ask: gives the best points that pass a further filter.
        narrow: whether a filter leaves the rest of the ranking unchanged, which it does not in fusions.
    """
    limit, has_key = groups.first_limit, models.Filter(must_not=[_empty(groups.key)])
    while True:
        points = ask(has_key, limit)
        groups.fill(points)
        if groups.full or len(points) < limit:
            return
        # From here on missing groups are searched by filters, unless a filter would change the ranking.
        if narrow and limit >= UNNARROWED_LIMIT:
            break
        limit *= 4
    _find_more(groups, ask, limit)
    _fill_up(groups, ask, limit)


def _find_more(groups: Groups, ask: Ask, limit: int) -> None:
    """Search for points outside the known groups, until there are enough groups."""
    while not groups.complete:
        outside = models.Filter(must_not=[_empty(groups.key), *_any_of(groups.key, groups.known())])
        if not groups.add(ask(outside, limit)):
            return


def _fill_up(groups: Groups, ask: Ask, limit: int) -> None:
    """Search for points of the groups that are not full."""
    while lacking := groups.lacking():
        points = ask(models.Filter(should=_any_of(groups.key, lacking)), limit)
        groups.refill(points)
        if len(points) < limit:
            return
        limit *= 4


def _empty(key: str) -> models.Condition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


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
