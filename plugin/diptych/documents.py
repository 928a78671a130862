"""Documents of a collection: read and deleted by their ids, read by a filter; and the words of such filters."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from qdrant_client import models

from diptych.errors import CollectionError
from diptych.handle import CollectionHandle
from diptych.payloads import field_of, from_payload, id_fields, named, point_id, points_are_free
from diptych.payloads.ids import own_point
from diptych.payloads.paths import quoted
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


def documents(handle: CollectionHandle, filter: models.Filter | None = None) -> Iterator[Document]:
    """The documents that fit the filter, all of them for None, page by page in no order that means anything.

    Raises:
        CollectionError: what is given is no filter.
        PopulateError: the store does not answer.
    """
    _require_filter(filter)
    if handle.exists:
        store, layout = Store.of(handle, threading.Event()), handle.view.layout
        for record in store.scrolled(filter, None):
            yield from_payload(record.id, record.payload, layout)


def count(handle: CollectionHandle, filter: models.Filter | None = None) -> int:
    """How many documents fit the filter, or there are for None; 0 before the first populate.

    Raises:
        CollectionError: what is given is no filter.
    """
    _require_filter(filter)
    return handle.client.count(handle.name, filter).count if handle.exists else 0


def having(handle: CollectionHandle, ids: Sequence[str]) -> models.Filter:
    """Qdrant's filter for the documents of these ids; without any it holds for none.

    Raises:
        CollectionError: ids that are no texts.
    """
    wanted, layout = _checked(ids), handle.view.layout
    if wanted and _is_told_by_the_store(handle):
        return named(wanted, layout)
    return models.Filter(must=[models.HasIdCondition(has_id=_points(handle, wanted))])


def field(handle: CollectionHandle, name: str) -> str:
    """The payload key of what documents call `text`, `title`, or a key of their metadata."""
    return quoted(field_of(handle.view.layout, name))


def _read(handle: CollectionHandle, store: Store, ids: Sequence[str]) -> Iterator[Document]:
    points = list(_located(handle, store, ids))
    for record in store.records(points):
        yield from_payload(record.id, record.payload, handle.view.layout)


def _located(handle: CollectionHandle, store: Store, ids: Sequence[str]) -> dict[PointId, str]:
    """Points that hold documents of these ids, with the id."""
    layout = handle.view.layout
    if _is_told_by_the_store(handle):
        records = store.scrolled(named(ids, layout), id_fields(layout))
    else:
        records = iter(store.records(_points(handle, ids), only=id_fields(layout)))
    return {plain_id(record.id): from_payload(record.id, record.payload, layout).id for record in records}


def _is_told_by_the_store(handle: CollectionHandle) -> bool:
    """Whether only a look into payloads tells at which points documents are."""
    return points_are_free(handle.view.layout) or bool(handle.registry.hook.diptych_point_id.get_hookimpls())


def _points(handle: CollectionHandle, ids: Sequence[str]) -> list[PointId]:
    """The points where documents of these ids are, if they are there: diptych's own, and those of other programs."""
    chosen = (point_id(Document(identifier, ""), handle.registry, handle.view.layout) for identifier in ids)
    foreign = (point for identifier in ids if (point := own_point(identifier)) is not None)
    return list(dict.fromkeys([*chosen, *foreign]))


def _checked(ids: Sequence[str]) -> list[str]:
    """The ids, each once."""
    if isinstance(ids, str) or not all(isinstance(identifier, str) for identifier in ids):
        raise CollectionError("ids are no list of texts", got=repr(ids)[:80], expected='["id", ...]')
    return list(dict.fromkeys(ids))


def _require_filter(filter: object) -> None:
    if filter is not None and not isinstance(filter, models.Filter):
        got = type(filter).__name__
        raise CollectionError("this is no filter", got=got, expected="qdrant_client.models.Filter or None")


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    yield from (list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))
