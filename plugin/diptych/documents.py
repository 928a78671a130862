"""Documents of a collection by their ids: read, and deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diptych.errors import CollectionError
from diptych.handle import CollectionHandle
from diptych.payloads import from_payload, id_fields, named, point_id, points_are_free
from diptych.payloads.ids import own_point
from diptych.populate.store import PAGE, PointId, Store, plain_id
from diptych.tenancy import identity, narrowed, scope, tenant_of
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models


def get(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> list[Document]:
    """The documents of these ids, in their order, without those that are not there, or not the tenant's.

    Raises:
        CollectionError: ids that are no texts; TenantError: no tenant where one is required.
        PopulateError: the store does not answer.
    """
    wanted = _checked(ids)
    _scope(handle, tenant)
    if not handle.exists:
        return []
    store = Store.of(handle, threading.Event())
    found = {document.id: document for batch in _batches(wanted) for document in _read(handle, store, batch, tenant)}
    return [found[identifier] for identifier in wanted if identifier in found]


def delete(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> int:
    """Delete the documents of these ids, of a tenant its own alone; how many of them there were.

    Raises:
        CollectionError: ids that are no texts; TenantError: no tenant where one is required.
        PopulateError: the store does not answer.
    """
    wanted = _checked(ids)
    _scope(handle, tenant)
    if not handle.exists:
        return 0
    store, deleted = Store.of(handle, threading.Event()), 0
    for batch in _batches(wanted):
        points = [point for point, document in _located(handle, store, batch, tenant).items() if document in batch]
        if points:
            store.delete(points)
        deleted += len(points)
    return deleted


def _scope(handle: CollectionHandle, tenant: str | None) -> models.Filter | None:
    return scope(handle.view.tenancy, handle.view.layout, tenant, f"collection {handle.name!r}")


def _read(handle: CollectionHandle, store: Store, ids: Sequence[str], tenant: str | None) -> Iterator[Document]:
    points = list(_located(handle, store, ids, tenant))
    for record in store.records(points):
        yield from_payload(record.id, record.payload, handle.view.layout)


def _located(handle: CollectionHandle, store: Store, ids: Sequence[str], tenant: str | None) -> dict[PointId, str]:
    """Points that hold documents of these ids, with the id; a tenant's own alone."""
    layout, tenancy = handle.view.layout, handle.view.tenancy
    fields = [*id_fields(layout), *store.tenant_fields]
    if points_are_free(layout) or handle.registry.hook.diptych_point_id.get_hookimpls():
        records = store.scrolled(narrowed(_scope(handle, tenant), named(ids, layout)), fields)
    else:
        names = {identifier: identity(identifier, tenant, tenancy, layout) for identifier in ids}
        chosen = (point_id(Document(i, ""), handle.registry, layout, identity=name) for i, name in names.items())
        foreign = (point for identifier in ids if (point := own_point(identifier)) is not None)
        records = iter(store.records(list(dict.fromkeys([*chosen, *foreign])), only=fields))
    found = {plain_id(record.id): from_payload(record.id, record.payload, layout) for record in records}
    own = tenant is None
    return {p: document.id for p, document in found.items() if own or tenant_of(document.metadata, tenancy) == tenant}


def _checked(ids: Sequence[str]) -> list[str]:
    """The ids, each once."""
    if isinstance(ids, str) or not all(isinstance(identifier, str) for identifier in ids):
        raise CollectionError("ids are no list of texts", got=repr(ids)[:80], expected='["id", ...]')
    return list(dict.fromkeys(ids))


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    yield from (list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))
