"""`coverage`: how many points lack a vector; `fillable`: how many of them have a text to make it of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.metadata import Generation, Layout
from diptych.payloads import text_key
from diptych.swap.vectors import lacking

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of `points` points, `missing` have no `vector`; of a text index, no text under that key."""

    vector: str
    points: int
    missing: int


def coverage(client: QdrantBase, name: str, generation: Generation) -> Coverage:
    """How many points of collection `name` lack the vector of `generation`, counted exactly."""
    missing = client.count(name, count_filter=lacking(generation), exact=True).count
    return Coverage(generation.vector, client.count(name, exact=True).count, missing)


def fillable(client: QdrantBase, name: str, generation: Generation, layout: Layout) -> int:
    """How many of the points that lack the generation's vector hold something that its encoder reads."""
    keys = [key for part in generation.reading.input if (key := text_key(layout, part))]
    texts = [models.Filter(must_not=[_empty(key), _blank(key)]) for key in keys]
    wanted = models.Filter(must=[lacking(generation), models.Filter(should=texts)])
    return client.count(name, count_filter=wanted, exact=True).count if texts else 0


def _empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


def _blank(key: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=""))
