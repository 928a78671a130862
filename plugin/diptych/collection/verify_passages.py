"""Checks and repairs passages that are points: their documents have the same vectors in one multi-vector."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.create import create_passages
from diptych.metadata.models import Generation
from diptych.stores.passage_collections import has_points
from diptych.stores.passage_points import Mended, PassagePoints


def passage_faults(handle: CollectionHandle) -> dict[str, Mended]:
    """By slot whose passages are points, what is wrong with them; without slots where nothing is."""
    faults = {}
    for name, _, passages in _live(handle):
        found = Mended()
        if not passages.exists():
            found.gone = passages.name
        for page in passages.documents() if not found.gone else ():
            found.add(passages.faults(page, closely=True))
        if found:
            faults[name] = found
    return faults


def mend_passages(handle: CollectionHandle) -> None:
    """Delete passages that no document has, and write missing and wrong ones from the documents' vectors."""
    for _, generation, passages in _live(handle):
        create_passages(handle.client, handle.name, generation)
        for page in passages.documents():
            passages.mend(page, closely=True)


def _live(handle: CollectionHandle) -> Iterator[tuple[str, Generation, PassagePoints]]:
    for name, slot in handle.slots.items():
        if slot.generation is not None and has_points(slot.generation):
            passages = PassagePoints(handle.client, handle.name, slot.vector, handle.view.layout)
            yield name, slot.generation, passages
