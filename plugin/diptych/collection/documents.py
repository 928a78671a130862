"""Reads and deletes documents by id or by filter, and makes small pictures of them for people who look at hits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import models

from diptych.errors import CollectionError, MediaError, PopulateError, SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed, needs_payloads, points_of, scope_of, tenant_of, with_ids
from diptych.media import MediaStore, from_payload, pictures
from diptych.media.read import is_url
from diptych.metadata.payloads import (
    THUMBNAIL,
    quoted,
    thumbnail_in,
)
from diptych.populate.read_ahead import batched
from diptych.populate.store import PAGE, Store
from diptych.runtime.json_faults import is_unicode
from diptych.search.filters import FilterLike, Where, combined
from diptych.search.store_calls import read_store, scrolled
from diptych.stores.scroll import PointId, plain_id
from diptych.stores.server_errors import is_refusal
from diptych.types import Document


def get(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> list[Document]:
    """The documents with these ids, in their order; missing ones, and those of other tenants, are left out.

    Raises:
        CollectionError: ids that are not texts; TenantError: no tenant where one is required.
        PopulateError: the store does not answer.
    """
    existing = {document.id: document for document, _ in _found(handle, ids, tenant)}
    return [existing[identifier] for identifier in dict.fromkeys(ids) if identifier in existing]


def payloads(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> dict[str, dict[str, Any]]:
    """What the points of these documents hold, by document id, as `get` finds and refuses them."""
    return {document.id: payload for document, payload in _found(handle, ids, tenant)}


def _found(
    handle: CollectionHandle, ids: Sequence[str], tenant: str | None
) -> Iterator[tuple[Document, dict[str, Any]]]:
    for store, points in _located_pages(handle, ids, tenant):
        for record in store.records(points, payload=store.whole):
            yield handle.view.layout.read(record.id, record.payload), record.payload or {}


def held(view: View, ids: Sequence[str], tenant: str | None, *, with_text: bool = False) -> dict[str, Document]:
    """Those of the documents that the collection holds for this tenant, by id: ids alone, or title and text, too.

    Raises:
        TenantError, SearchError, StoreError: as `records_of`.
    """
    fields = [*view.layout.id_fields(), *(view.layout.text_fields() if with_text else ())]
    records = records_of(view, ids, tenant, payload=models.PayloadSelectorInclude(include=fields))
    documents = (view.layout.read(record.id, record.payload) for record in records)
    return {document.id: document for document in documents}


def records_of(
    view: View,
    ids: Sequence[str],
    tenant: str | None,
    *,
    chosen: models.Filter | None = None,
    payload: bool | models.PayloadSelector = False,
) -> Iterator[models.Record]:
    """The points of those documents that the collection holds for this tenant and that match a filter.

    They are read as a search reads, within its deadline. A document has several where another program wrote them.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        SearchError, StoreError: the store cannot answer.
    """
    own = scope_of(view, tenant)
    if ids:
        wanted = narrowed(own, narrowed(chosen, models.Filter(must=[with_ids(view, ids, tenant)])))
        shard_key = tenant if view.tenancy is not None and view.tenancy.shard_keys else None
        for records in scrolled(view, wanted, len(ids), payload=payload, shard_key=shard_key):
            yield from records


def delete(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> int:
    """Delete the documents with these ids; returns how many existed. With a tenant, only its own.

    Raises:
        CollectionError: ids that are not texts; TenantError: no tenant where one is required.
        PopulateError: the store does not answer.
    """
    deleted = 0
    for store, points in _located_pages(handle, ids, tenant):
        if points:
            store.delete(points)
        deleted += len(points)
    return deleted


def delete_matching(
    handle: CollectionHandle, filter: FilterLike | None, where: Where | None, *, tenant: str | None = None
) -> int:
    """Delete the documents that match `filter` and `where`; returns how many there were. With a tenant, only its own.

    Raises:
        SearchError: `filter` or `where` cannot be used; TenantError: no tenant where one is required.
        CollectionError: they hold no condition, so that every document would match.
        PopulateError: the store does not answer.
    """
    condition = combined(filter, where)
    if condition is None or not any((condition.must, condition.should, condition.must_not, condition.min_should)):
        raise CollectionError(
            "no condition is given, so all documents would be deleted",
            expected='ids, or a filter with conditions: where={"section": "games"}',
            do="name some; all of them: delete([document.id for document in collection.documents()])",
        )
    scoped = narrowed(scope_of(handle.view, tenant), condition)
    if not handle.exists:
        return 0
    store = Store.of(handle)
    # All of them before any is deleted, since a scroll may skip points where others go.
    points = [plain_id(record.id) for record in _matching(store, scoped, handle.view.layout.id_fields())]
    for batch in batched(points, PAGE):
        store.delete(batch)
    return len(points)


def _located_pages(
    handle: CollectionHandle, ids: Sequence[str], tenant: str | None
) -> Iterator[tuple[Store, list[PointId]]]:
    """The points that hold documents of these ids, a page at a time; none before the first populate."""
    unique = _unique_ids(ids)
    scope_of(handle.view, tenant)
    if not handle.exists:
        return
    store = Store.of(handle)
    for batch in batched(unique, PAGE):
        names = set(batch)
        yield store, [point for point, name in _located(handle, store, batch, tenant).items() if name in names]


def documents(
    handle: CollectionHandle,
    filter: FilterLike | None = None,
    *,
    where: Where | None = None,
    tenant: str | None = None,
) -> Iterator[Document]:
    """The documents that match `filter` and `where`, all of them for None, page by page in no particular order.

    Raises:
        SearchError: `filter` or `where` cannot be used; TenantError: no tenant where one is required.
        PopulateError: the store does not answer.
    """
    scoped = narrowed(scope_of(handle.view, tenant), combined(filter, where))
    records = _matching(Store.of(handle), scoped, None) if handle.exists else iter(())
    return (handle.view.layout.read(record.id, record.payload) for record in records)


def _matching(store: Store, filter: models.Filter | None, fields: list[str] | None) -> Iterator[models.Record]:
    """The points that match the filter, with these payload keys; for None with all of the document."""
    try:
        yield from store.scrolled(filter, fields)
    except PopulateError as error:
        if filter is None or not is_refusal(error.__cause__):
            raise
        what = "the store refuses the filter"
        raise SearchError(what, where=error.where, got=error.got, do="fix the filter") from error


def count(
    handle: CollectionHandle,
    filter: FilterLike | None = None,
    *,
    where: Where | None = None,
    tenant: str | None = None,
) -> int:
    """Number of documents that match `filter` and `where`, or of all for None; 0 before the first populate.

    Without filter and tenant all are counted, whosever they are.

    Raises:
        SearchError: `filter` or `where` cannot be used; TenantError: a filter alone where a tenant is required.
    """
    condition = combined(filter, where)
    scoped = None if condition is None and tenant is None else narrowed(scope_of(handle.view, tenant), condition)
    return read_store(handle.view, lambda: handle.client.count(handle.name, scoped).count) if handle.exists else 0


def having(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> models.Filter:
    """Qdrant's filter for the documents with these ids; without ids it matches nothing.

    Raises:
        CollectionError: ids that are not texts; TenantError: no tenant where one is required.
    """
    unique, scoped = _unique_ids(ids), scope_of(handle.view, tenant)
    id_condition = with_ids(handle.view, unique, tenant)
    return models.Filter(must=[scoped, id_condition]) if scoped else id_condition


def field(handle: CollectionHandle, name: str) -> str:
    """The payload key for what documents call `text`, `title`, or a key of their metadata."""
    return quoted(handle.view.layout.field(name))


def _located(handle: CollectionHandle, store: Store, ids: Sequence[str], tenant: str | None) -> dict[PointId, str]:
    """Points that hold documents with these ids, with the id; with a tenant only its own."""
    layout, tenancy = handle.view.layout, handle.view.tenancy
    fields = [*layout.id_fields(), *store.tenant_fields]
    if needs_payloads(handle.view):
        records = store.scrolled(narrowed(scope_of(handle.view, tenant), layout.id_filter(ids)), fields)
    else:
        records = iter(store.records(points_of(handle.view, ids, tenant), payload=fields))
    documents = {plain_id(record.id): layout.read(record.id, record.payload) for record in records}
    return {
        point: document.id
        for point, document in documents.items()
        if tenant is None or tenant_of(document.metadata, tenancy) == tenant
    }


def _unique_ids(ids: Sequence[str]) -> list[str]:
    """The ids, each once."""
    texts = isinstance(ids, Iterable) and not isinstance(ids, str)
    if not texts or not all(isinstance(identifier, str) and is_unicode(identifier) for identifier in ids):
        raise CollectionError("ids are not a list of texts", got=brief(ids), expected='["id", ...]')
    return list(dict.fromkeys(ids))


def thumbnail_of(store: MediaStore | None, modality: str, item: Mapping[str, Any]) -> bytes:
    """The thumbnail of a picture or clip: stored, or made of its stored bytes or its file. No URL is fetched.

    Args:
        store: reads the file; None where there is none.
        modality: the item's.
        item: what a payload says of it.

    Raises:
        MediaError, CollectionError: there is none on this machine, or it cannot be read.
    """
    if item.get(THUMBNAIL) is not None:
        if stored := thumbnail_in(item):
            return stored
        raise MediaError("the stored thumbnail is not a picture", where=modality, do="populate the document again")
    media = from_payload(modality, item)
    if store is None or (media.data is None and is_url(media.source)):
        do = "media: {store: thumbnail} keeps small pictures in the collection"
        raise MediaError("the picture is not on this machine", where=str(media), do=do)
    pixels: Any = store.content(media)
    return pictures.thumbnail(pixels if modality == "image" else pixels[0], str(media))
