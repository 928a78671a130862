"""A random sample of a collection's points, with payloads and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from diptych.populate.store import plain_id
from diptych.slots.encode import Vector
from diptych.types import SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


@dataclass(frozen=True, slots=True)
class Sampled:
    """A point: id, payload, and its vectors by physical name, "" for the unnamed one."""

    id: int | str
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector]


def sampled(client: QdrantBase, name: str, size: int, *, having: str | None = None) -> list[Sampled]:
    """At most `size` points chosen at random, those that have the vector `having` if one is named."""
    chosen = None
    if having is not None:
        chosen = models.Filter(must=[models.HasVectorCondition(has_vector=having)])
    response = client.query_points(
        name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=chosen,
        limit=size,
        with_payload=True,
        with_vectors=True,
    )
    return [Sampled(plain_id(point.id), point.payload or {}, _vectors(point.vector)) for point in response.points]


def _vectors(raw: Any) -> dict[str, Vector]:
    by_name = raw if isinstance(raw, dict) else {"": raw}
    return {name: _vector(value) for name, value in by_name.items() if value is not None}


def _vector(raw: Any) -> Vector:
    if not isinstance(raw, models.SparseVector):
        return np.asarray(raw, np.float32)
    return SparseVector.from_mapping(dict(zip(raw.indices, raw.values, strict=True)))
