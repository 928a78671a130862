"""Pairs for a drift map out of a live collection: documents that both encoders have encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from diptych.metadata.models import Generation
from diptych.slots.drift_maps import Map
from diptych.swap.drift.quality import likenesses
from diptych.swap.sample import FETCH, sample_points
from diptych.types import Floats

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

MOST = 5000  # pairs that a map is fitted on
WHOLE = 1_000_000  # up to here all ids are read, 2,000 in a request, which costs less than 5,000 probes
SAME = 0.9999  # likeness of a mapped vector and the old one from which on the old one is taken for mapped


def live_pairs(
    client: QdrantBase, name: str, new: Generation, old: Generation, served: Iterable[Map] = ()
) -> tuple[Floats, Floats]:
    """New and old vectors of the same documents, float32 `[n, d_new]` and `[n, d_old]`, drawn evenly from all ids.

    Pairs of which one vector is zero or not finite are left out. So are those whose old vector came through a map of
    `served`: populate wrote it, and it would tell of the map, not of the old encoder.
    """
    both = models.Filter(must=[models.HasVectorCondition(has_vector=own.vector) for own in (new, old)])
    points = sample_points(client, name, MOST, whole=WHOLE, wanted=both)
    names = [new.vector, old.vector]
    found = []
    for start in range(0, len(points), FETCH):
        page = client.retrieve(name, points[start : start + FETCH], with_payload=False, with_vectors=names)
        found += [pair for record in page if (pair := _pair(record.vector, names))]
    ours, theirs = (np.asarray([pair[side] for pair in found], np.float32) for side in (0, 1))
    return _without_mapped(ours, theirs, served)


def _pair(vectors: Any, names: Sequence[str]) -> list[Floats]:
    """The vectors of these names; empty where one of them is gone by now, or has no direction."""
    found = [np.asarray((vectors or {}).get(name, ()), np.float32) for name in names]
    return found if all(vector.any() and np.isfinite(vector).all() for vector in found) else []


def _without_mapped(new: Floats, old: Floats, served: Iterable[Map]) -> tuple[Floats, Floats]:
    """The pairs that no map carries over exactly.

    Payloads hold no mark of how a vector came to be, and those of adopted collections must not. A map that is exact for
    documents of the old encoder, too, loses nothing by this: it is as good as can be, and stays.
    """
    for drift in served:
        if len(new):
            kept = likenesses(drift.apply(new), old, old.mean(axis=0)) < SAME
            new, old = new[kept], old[kept]
    return new, old
