"""What Edge answers, as qdrant-client's models, built without validation: Edge's types are right already."""

from __future__ import annotations

from typing import Any, TypeVar

import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client import models

Model = TypeVar("Model", bound=BaseModel)


def scored_point(found: Any) -> models.ScoredPoint:
    """A found point with its score."""
    return _unchecked(
        models.ScoredPoint,
        id=point_id(found.id),
        version=found.version,
        score=found.score,
        payload=found.payload,
        vector=vectors(found.vector),
        shard_key=None,
        order_value=found.order_value,
    )


def record(found: Any) -> models.Record:
    """A stored point."""
    return _unchecked(
        models.Record,
        id=point_id(found.id),
        payload=found.payload,
        vector=vectors(found.vector),
        shard_key=None,
        order_value=found.order_value,
    )


def point_id(found: Any) -> models.ExtendedPointId:
    """An id as qdrant-client gives it: an integer, or a UUID as text."""
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


def _unchecked(model: type[Model], **fields: Any) -> Model:
    """`model_construct` for a complete set of fields, at a third of its price."""
    made = model.__new__(model)
    put = object.__setattr__
    put(made, "__dict__", fields)
    put(made, "__pydantic_fields_set__", set(fields))
    put(made, "__pydantic_extra__", None)
    put(made, "__pydantic_private__", None)
    return made
