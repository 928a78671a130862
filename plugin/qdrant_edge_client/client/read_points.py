"""Reads points: by id, page by page, counts and facets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.client.base import EdgeBase
from qdrant_edge_client.client.unsupported import check_arguments
from qdrant_edge_client.convert import answers
from qdrant_edge_client.convert.filters import edge_filter
from qdrant_edge_client.convert.queries import order_by as edge_order
from qdrant_edge_client.convert.queries import with_payload as edge_payload
from qdrant_edge_client.convert.queries import with_vector as edge_vector
from qdrant_edge_client.errors import SearchError


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
        records = {record.id: record for record in map(answers.record, edge_records)}
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
        next_offset = None if next_id is None else answers.point_id(next_id)
        return [answers.record(record) for record in edge_records], next_offset

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
