"""`coverage`: how many points lack a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diptych.metadata.models import Generation
from diptych.populate.store import lacking

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
