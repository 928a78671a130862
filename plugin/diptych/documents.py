"""Documents of a collection by their ids: read, and deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from diptych.errors import CollectionError
from diptych.handle import CollectionHandle
from diptych.payloads import from_payload, id_fields, named, point_id, points_are_free
from diptych.payloads.ids import own_point
from diptych.populate.store import PAGE, PointId, Store, plain_id
from diptych.types import Document


def get(handle: CollectionHandle, ids: Sequence[str]) -> list[Document]:
    """The documents of these ids, in their order, without those that are not there.

    Raises:
        CollectionError: ids that are no texts.
        PopulateError: the store does not answer.
    """
    wanted = _checked(ids)
    if not handle.exists:
        return []
    store = Store.of(handle, threading.Event())
    found = {document.id: document for batch in _batches(wanted) for document in _read(handle, store, batch)}
    return [found[identifier] for identifier in wanted if identifier in found]


def delete(handle: CollectionHandle, ids: Sequence[str]) -> int:
    """Delete the documents of these ids; how many of them there were.

    Raises:
        CollectionError: ids that are no texts.
        PopulateError: the store does not answer.
    """
    wanted = _checked(ids)
    if not handle.exists:
        return 0
    store, deleted = Store.of(handle, threading.Event()), 0
    for batch in _batches(wanted):
        points = [point for point, document in _located(handle, store, batch).items() if document in batch]
        if points:
            store.delete(points)
        deleted += len(points)
    return deleted


def _read(handle: CollectionHandle, store: Store, ids: Sequence[str]) -> Iterator[Document]:
    points = list(_located(handle, store, ids))
    for record in store.records(points):
        yield from_payload(record.id, record.payload, handle.view.layout)


def _located(handle: CollectionHandle, store: Store, ids: Sequence[str]) -> dict[PointId, str]:
    """Points that hold documents of these ids, with the id."""
    layout = handle.view.layout
    if points_are_free(layout) or handle.registry.hook.diptych_point_id.get_hookimpls():
        records = store.scrolled(named(ids, layout), id_fields(layout))
    else:
        chosen = (point_id(Document(identifier, ""), handle.registry, layout) for identifier in ids)
        foreign = (point for identifier in ids if (point := own_point(identifier)) is not None)
        records = iter(store.records(list(dict.fromkeys([*chosen, *foreign])), only=id_fields(layout)))
    return {plain_id(record.id): from_payload(record.id, record.payload, layout).id for record in records}


def _checked(ids: Sequence[str]) -> list[str]:
    """The ids, each once."""
    if isinstance(ids, str) or not all(isinstance(identifier, str) for identifier in ids):
        raise CollectionError("ids are no list of texts", got=repr(ids)[:80], expected='["id", ...]')
    return list(dict.fromkeys(ids))


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    yield from (list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))
