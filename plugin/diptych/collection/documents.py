"""Reads and deletes documents by id or by filter, and makes small pictures of them for people who look at hits.

Populate's store is imported when it is needed: it takes as long to import as all that searching needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.errors import CollectionError, MediaError, PopulateError, SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View, narrowed, needs_payloads, points_of, scope_of, tenant_of, with_ids
from diptych.media import MediaStore, from_payload
from diptych.media.decode import thumbnail
from diptych.media.read import is_url
from diptych.metadata.payloads import THUMBNAIL, quoted, thumbnail_in
from diptych.runtime.validation_messages import is_unicode
from diptych.search.filters import FilterLike, Where, combined
from diptych.search.store_calls import read_store, records_of
from diptych.stores.scroll import PointId, plain_id
from diptych.stores.server_errors import is_refusal
from diptych.types import Document

if TYPE_CHECKING:
    pass


class CollectionDocuments:
    """The part of `Collection` that reads and deletes documents."""

    handle: CollectionHandle

    def _tenant(self, tenant: str | None) -> str | None:
        """The tenant of a call; a tenant's collection fills in its own."""
        return tenant

    def get(self, ids: Sequence[str], *, tenant: str | None = None) -> list[Document]:
        """The documents with these ids, in their order; missing ones, and those of other tenants, are left out.

        Args:
            ids: the documents' own ids.
            tenant: as in `search`.

        Raises:
            CollectionError: ids that are not texts.
            TenantError: no tenant where one is required.
            PopulateError: the store does not answer.
        """
        from diptych.populate.read_ahead import batched
        from diptych.populate.store import PAGE, Store

        existing = {}
        for points in batched(_points(self.handle, ids, self._tenant(tenant)), PAGE):
            store = Store.of(self.handle)
            for record in store.records(points, payload=store.whole):
                document = self.handle.view.layout.read(record.id, record.payload)
                existing[document.id] = document
        return [existing[identifier] for identifier in dict.fromkeys(ids) if identifier in existing]

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: FilterLike | None = None,
        where: Where | None = None,
        tenant: str | None = None,
    ) -> int:
        """Delete documents by id, or those that match a filter; returns how many existed.

        Args:
            ids: the documents' own ids.
            filter, where: as in `search`, in place of ids.
            tenant: whose documents; others stay.

        Raises:
            CollectionError: ids that are not texts, ids and a filter, or neither.
            SearchError: `filter` or `where` cannot be used.
            TenantError: no tenant where one is required.
            PopulateError: the store does not answer.
        """
        from diptych.populate.read_ahead import batched
        from diptych.populate.store import PAGE, Store

        tenant = self._tenant(tenant)
        if ids is not None and (filter is not None or where is not None):
            raise CollectionError(
                "ids and a filter do not go together",
                expected="ids, or filter and where",
                do="leave one out, or give both as filters: delete(filter=collection.having(ids), where=...)",
            )
        if ids is not None:
            points = _points(self.handle, ids, tenant)
        else:
            condition = combined(filter, where)
            if condition is None or not any(
                (condition.must, condition.should, condition.must_not, condition.min_should)
            ):
                raise CollectionError(
                    "no condition is given, so all documents would be deleted",
                    expected='ids, or a filter with conditions: where={"section": "games"}',
                    do="name some; all of them: delete([document.id for document in collection.documents()])",
                )
            scoped = narrowed(scope_of(self.handle.view, tenant), condition)
            # All of them before any is deleted, since a scroll may skip points where others go.
            points = [
                plain_id(found.id) for found in _matching(self.handle, scoped, self.handle.view.layout.id_fields())
            ]
        for batch in batched(points, PAGE):
            Store.of(self.handle).delete(batch)
        return len(points)

    def documents(
        self, filter: FilterLike | None = None, *, where: Where | None = None, tenant: str | None = None
    ) -> Iterator[Document]:
        """The documents that match, all of them without a filter, page by page in no particular order.

        Args:
            filter, where, tenant: as in `search`.

        Raises:
            SearchError: `filter` or `where` cannot be used.
            TenantError: no tenant where one is required.
            PopulateError: the store does not answer.
        """
        scoped = narrowed(scope_of(self.handle.view, self._tenant(tenant)), combined(filter, where))
        records = _matching(self.handle, scoped, None)
        return (self.handle.view.layout.read(record.id, record.payload) for record in records)

    def count(self, filter: FilterLike | None = None, *, where: Where | None = None, tenant: str | None = None) -> int:
        """Number of documents in the collection, or that match a filter; 0 before the first populate.

        Without filter and tenant all are counted, whosever they are.

        Args:
            filter, where, tenant: which documents are counted, as in `search`; all of them unless given.

        Raises:
            SearchError: `filter` or `where` cannot be used.
            TenantError: a filter alone where a tenant is required.
        """
        condition, tenant, handle = combined(filter, where), self._tenant(tenant), self.handle
        scoped = None if condition is None and tenant is None else narrowed(scope_of(handle.view, tenant), condition)
        return read_store(handle.view, lambda: handle.client.count(handle.name, scoped).count) if handle.exists else 0

    def having(self, ids: Sequence[str], *, tenant: str | None = None) -> models.Filter:
        """Qdrant's filter for the documents with these `ids`, of `tenant` where tenants share the collection.

        Raises:
            CollectionError: ids that are not texts.
            TenantError: no tenant where one is required.
        """
        tenant, unique = self._tenant(tenant), _unique_ids(ids)
        scoped, id_condition = scope_of(self.handle.view, tenant), with_ids(self.handle.view, unique, tenant)
        return models.Filter(must=[scoped, id_condition]) if scoped else id_condition

    def field(self, name: str) -> str:
        """The payload key that holds `name`: text, title, or a key of the documents' metadata."""
        return quoted(self.handle.view.layout.field(name))


def held(view: View, ids: Sequence[str], tenant: str | None, *, with_text: bool = False) -> dict[str, Document]:
    """Those of the documents that the collection holds for this tenant, by id: ids alone, or title and text, too.

    Raises:
        TenantError, SearchError, StoreError: as `records_of`.
    """
    fields = [*view.layout.id_fields(), *(view.layout.text_fields() if with_text else ())]
    records = records_of(view, ids, tenant, payload=models.PayloadSelectorInclude(include=fields))
    documents = (view.layout.read(record.id, record.payload) for record in records)
    return {document.id: document for document in documents}


def _points(handle: CollectionHandle, ids: Sequence[str], tenant: str | None) -> list[PointId]:
    """The points that hold documents of these ids, with a tenant only its own; none before the first populate."""
    from diptych.populate.read_ahead import batched
    from diptych.populate.store import PAGE, Store

    unique, scope, found = _unique_ids(ids), scope_of(handle.view, tenant), list[PointId]()
    if not handle.exists:
        return []
    store, layout, tenancy = Store.of(handle), handle.view.layout, handle.view.tenancy
    fields = [*layout.id_fields(), *store.tenant_fields]
    for batch in batched(unique, PAGE):
        if needs_payloads(handle.view):
            records = store.scrolled(narrowed(scope, layout.id_filter(batch)), fields)
        else:
            records = iter(store.records(points_of(handle.view, batch, tenant), payload=fields))
        names = set(batch)
        for record in records:
            document = layout.read(record.id, record.payload)
            if document.id in names and (tenant is None or tenant_of(document.metadata, tenancy) == tenant):
                found.append(plain_id(record.id))
    return found


def _matching(
    handle: CollectionHandle, filter: models.Filter | None, fields: list[str] | None
) -> Iterator[models.Record]:
    """The points that match the filter, with these payload keys; for None with all of the document."""
    from diptych.populate.store import Store

    try:
        if handle.exists:
            yield from Store.of(handle).scrolled(filter, fields)
    except PopulateError as error:
        if filter is None or not is_refusal(error.__cause__):
            raise
        what = "the store refuses the filter"
        raise SearchError(what, where=error.where, got=error.got, do="fix the filter") from error


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
    return thumbnail(store.content(media), str(media))
