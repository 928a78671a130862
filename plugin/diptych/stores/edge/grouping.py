"""Groups: the best points of the best groups. Edge has none, so they are made here."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from diptych.errors import SearchError
from diptych.stores.edge.arguments import check_arguments
from diptych.stores.edge.groups import Ask, Groups, collect, with_wider_prefetches
from diptych.stores.edge.reading import Reading
from diptych.stores.edge.searching import Searching


class Grouping(Searching, Reading):
    """The part of EdgeClient that groups."""

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
            with_payload=[group_by],
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
        """Asks `request` with a further filter and another limit."""

        def ask(further: models.Filter, limit: int) -> list[models.ScoredPoint]:
            both = further if request.filter is None else models.Filter(must=[request.filter, further])
            asked = request.model_copy(update={"filter": both, "limit": limit})
            return self._query_all(collection_name, [asked])[0].points

        return ask

    def _complete(self, collection_name: str, groups: Groups, with_payload: Any, with_vectors: Any) -> None:
        """Fetch what the answer shows of its points."""
        ids = list({point.id for point in groups.points()})
        records = {r.id: r for r in self.retrieve(collection_name, ids, with_payload, with_vectors)}
        for point in groups.points():
            record = records[point.id]
            point.payload, point.vector = record.payload, record.vector

    def _look_up(self, groups: list[models.PointGroup], wanted: models.WithLookupInterface) -> None:
        lookup = wanted if isinstance(wanted, models.WithLookup) else models.WithLookup(collection=wanted)
        payload = True if lookup.with_payload is None else lookup.with_payload
        for group in groups:
            found = self.retrieve(lookup.collection, [group.id], payload, lookup.with_vectors)
            group.lookup = found[0] if found else None
