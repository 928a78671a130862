"""A random sample of a collection's points, with payloads and vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from diptych.errors import MediaError
from diptych.media import Media, MediaStore
from diptych.metadata.models import Layout
from diptych.populate.media_references import media_named
from diptych.populate.rejects import reason_of
from diptych.slots.encode import Vector
from diptych.stores.scroll import plain_id
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


def with_media(
    points: Sequence[Sampled], vector: str, modality: str, layout: Layout, store: MediaStore
) -> tuple[list[Sampled], list[Media], str]:
    """The points with the vector and readable media of a modality, those media, and why others cannot be read."""
    kept: list[Sampled] = []
    found: list[Media] = []
    reason = ""
    for point in points:
        raw = media_named(point.payload, layout.media.get(modality, ""))
        if raw is None or vector not in point.vectors:
            continue
        try:
            media = store.take(modality, raw)
            store.content(media)  # a damaged file must not hide what the others show
            found.append(media)
            kept.append(point)
        except MediaError as error:
            reason = reason or f"point {point.id}: {reason_of(error)}"
    return kept, found, reason


def _vectors(raw: Any) -> dict[str, Vector]:
    by_name = raw if isinstance(raw, dict) else {"": raw}
    return {name: _vector(value) for name, value in by_name.items() if value is not None}


def _vector(raw: Any) -> Vector:
    if not isinstance(raw, models.SparseVector):
        return np.asarray(raw, np.float32)
    return SparseVector.from_mapping(dict(zip(raw.indices, raw.values, strict=True)))
