"""Writes the passages of documents whose slot keeps them as points, before and after the documents themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from diptych.errors import CollectionNotFound, PopulateError
from diptych.populate.store import PointId, Refused, Store
from diptych.slots.slot import Slot
from diptych.stores.passage_collections import has_points

# Id, payload and vectors of a document's point; the vectors as the client takes them.
Written = tuple[PointId, Mapping[str, Any] | None, Mapping[str, Any]]


def with_points(slots: Mapping[str, Slot]) -> tuple[str, ...]:
    """Of these slots by physical vector, those whose passages are points."""
    return tuple(vector for vector, slot in slots.items() if has_points(slot.generation))


def write_passages(store: Store, vectors: Collection[str], points: Iterable[Written]) -> None:
    """Write the passages of documents that are about to be written.

    Raises:
        Refused: the store rejects them, or their collection was dropped, as at the end of a swap.
    """
    held = list(points)
    for vector in vectors:
        passages = store.passages(vector)
        try:
            passages.write([(point, payload, own[vector]) for point, payload, own in held if vector in own])
        except PopulateError:
            if passages.exists():
                raise
            do = "diptych doctor --repair makes it again"
            raise Refused from CollectionNotFound(f"there is no collection {passages.name!r} of passages", do=do)


def mend_passages(store: Store, vectors: Collection[str], points: Sequence[PointId]) -> None:
    """Delete the passages of earlier texts of documents that were written; see `PassagePoints.mend`."""
    for vector in vectors if points else ():
        passages = store.passages(vector)
        if passages.exists():
            passages.mend(points)
