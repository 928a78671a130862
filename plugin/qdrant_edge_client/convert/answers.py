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


def scored_point(point: Any) -> models.ScoredPoint:
    """A found point with its score."""
    identifier, vector = point.id, point.vector
    return _scored_point(
        {
            "id": identifier if type(identifier) is int else str(identifier),
            "version": point.version,
            "score": point.score,
            "payload": point.payload,
            "vector": vector if vector is None else vectors(vector),
            "shard_key": None,
            "order_value": point.order_value,
        }
    )


def record(point: Any) -> models.Record:
    """A stored point."""
    return _record(
        {
            "id": point_id(point.id),
            "payload": point.payload,
            "vector": vectors(point.vector),
            "shard_key": None,
            "order_value": point.order_value,
        }
    )


def point_id(identifier: Any) -> models.ExtendedPointId:
    """An id in qdrant-client's form: an integer, or a UUID as text."""
    return identifier if type(identifier) is int else str(identifier)


def vectors(edge_vectors: Any) -> Any:
    """Vectors of a point: sparse ones become qdrant-client's, lists stay."""
    if isinstance(edge_vectors, dict):
        return {name: vector(value) for name, value in edge_vectors.items()}
    return edge_vectors


def vector(edge_vector: Any) -> Any:
    """One vector."""
    if isinstance(edge_vector, edge.SparseVector):
        return models.SparseVector.model_construct(indices=edge_vector.indices, values=edge_vector.values)
    return edge_vector


_scored_point = unchecked(models.ScoredPoint)
_record = unchecked(models.Record)
_query_response = unchecked(QueryResponse)
