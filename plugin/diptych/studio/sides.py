"""Sides: what a query can be asked of, such as the whole pipeline, one slot, or another generation during a swap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diptych.collection.collection import Collection
from diptych.errors import SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.search import Pipeline
from qdrant_edge_client.validation_messages import nearest

PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class Side:
    """One thing that can be asked.

    Args:
        id: names it in requests and links.
        label: for people.
        kind: `pipeline`, `slot`, `state`, `generation` or `yaml`.
        view: what is searched.
        pipeline: the stages; None for those of the view's own settings.
    """

    id: str
    label: str
    kind: str
    view: CollectionHandle | View
    pipeline: Pipeline | None = None


def sides_of(collection: Collection) -> Iterator[Side]:
    """All sides of a collection that need no text from the user, the whole pipeline first."""
    view = collection.handle.now()
    yield Side(PIPELINE, "whole pipeline", PIPELINE, collection.handle)
    for name, slot in view.slots.items():
        if not slot.anchored:  # queries have no vector for scores of anchors
            alone = Pipeline.of_slot(name, view.search_config)
            yield Side(f"slot:{name}", f"{name} alone", "slot", collection.handle, alone)


def side_of(collection: Collection, wanted: str) -> Side:
    """The side of this id.

    Raises:
        SearchError: there is none.
    """
    known = {side.id: side for side in sides_of(collection)}
    if wanted not in known:
        what, where = f"there is no side {wanted[:80]!r}", f"collection {collection.name!r}"
        raise SearchError(what, where=where, expected=", ".join(known), do=nearest(wanted, known))
    return known[wanted]
