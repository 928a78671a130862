"""`Gaps`: points whose payload is as the source has it, and that lack a live vector all the same.

A server that crashed may have lost it, or a program other than diptych has written the point.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import Generation
from diptych.populate.store import PointId, Store, plain_id


class Gaps:
    """Which points lack a live vector; the collection is asked about each only if any does."""

    def __init__(self, handle: CollectionHandle, store: Store) -> None:
        live = handle.metadata.live.slots.values() if handle.metadata else ()
        self._store = store
        self._filters: list[models.Condition] = [lacking(own) for own in live if own.kind != "text_index"]
        self._any = bool(self._filters) and store.count(models.Filter(should=self._filters)) > 0

    def among(self, points: Sequence[PointId]) -> set[PointId]:
        """Those of these points that lack one."""
        if not self._any:
            return set()
        here = models.HasIdCondition(has_id=list(points))
        found = self._store.scrolled(models.Filter(must=[here], should=self._filters), ["id"])
        return {plain_id(record.id) for record in found}


def lacking(generation: Generation) -> models.Filter:
    """Finds the points that do not have the generation's vector, or not that of its first stage."""
    if generation.kind == "text_index":
        return models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key=generation.vector))])
    without = [models.Filter(must_not=[models.HasVectorCondition(has_vector=name)]) for name in generation.vectors]
    return without[0] if len(without) == 1 else models.Filter(should=without)
