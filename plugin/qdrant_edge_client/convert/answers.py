"""Edge's answers as qdrant-client's models, built without validation: Edge's types are right already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from qdrant_edge_client.unchecked import unchecked


def query_response(points: Sequence[Any]) -> QueryResponse:
    """The answer to one query."""
    return _query_response({"points": [scored_point(point) for point in points]})


def scored_point(found: Any) -> models.ScoredPoint:
    """A found point with its score."""
    identifier, vector = found.id, found.vector
    return _scored_point(
        {
            "id": identifier if type(identifier) is int else str(identifier),
            "version": found.version,
            "score": found.score,
            "payload": found.payload,
            "vector": vector if vector is None else vectors(vector),
            "shard_key": None,
            "order_value": found.order_value,
        }
    )


def record(found: Any) -> models.Record:
    """A stored point."""
    return _record(
        {
            "id": point_id(found.id),
            "payload": found.payload,
            "vector": vectors(found.vector),
            "shard_key": None,
            "order_value": found.order_value,
        }
    )


def point_id(found: Any) -> models.ExtendedPointId:
    """An id in qdrant-client's form: an integer, or a UUID as text."""
    return found if type(found) is int else str(found)


def vectors(found: Any) -> Any:
    """Vectors of a point: sparse ones become qdrant-client's, lists stay."""
    if isinstance(found, dict):
        return {name: vector(value) for name, value in found.items()}
    return found


def vector(found: Any) -> Any:
    """One vector."""
    if isinstance(found, edge.SparseVector):
        return models.SparseVector.model_construct(indices=found.indices, values=found.values)
    return found


_scored_point = unchecked(models.ScoredPoint)
_record = unchecked(models.Record)
_query_response = unchecked(QueryResponse)
