"""`Store`: the calls that populate makes to a collection, retried when the store fails temporarily."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import tenacity
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from diptych.errors import (
    CollectionError,
    CollectionNotFound,
    DocumentError,
    FingerprintMismatch,
    PopulateError,
    RegistryError,
    SearchError,
    StoreDamaged,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnsupported,
    SwapError,
)
from diptych.handle.tenancy import scope, tenant_of
from diptych.metadata.models import Generation, Layout, Tenancy
from diptych.metadata.payloads import (
    MEDIA,
    NATIVE,
    OWN,
    field_of,
    from_payload,
    has_media,
    id_fields,
    id_filter,
    is_textless,
    text_fields,
)
from diptych.populate.rejects import reason_of
from diptych.stores.scroll import PointId, pages, plain_id
from diptych.stores.server_errors import grpc_code

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.handle.collection_handle import CollectionHandle

FIRST_PAUSE = 0.5  # seconds; each further pause is twice as long, with jitter
LONGEST_PAUSE = 30.0
PAGE = 1024  # points read or deleted in one call
# Errors of arguments or code, and diptych's own: another try would end in the same way.
_PERMANENT = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError, RecursionError)
_OURS = (
    CollectionError,
    DocumentError,
    RegistryError,
    SearchError,
    StoreLocked,
    StoreUnsupported,
    StoreDamaged,
    StoreFull,
    StoreReadOnly,
)
_WORTH_ANOTHER_TRY = {408, 425, 429}  # HTTP statuses below 500 that another try may avoid
_GRPC_PERMANENT = {"INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
_OWN_FIELDS = (f"{OWN}.id", f"{OWN}.hash")  # not the whole key, which may also hold media with their bytes
_CONTENT = {400, 413, 422}  # HTTP statuses by which a store rejects the points of a write

T = TypeVar("T")


class Refused(Exception):
    """The store works, but refuses the content of a request's points; the cause says why."""


class Store:
    """One collection as populate uses it. Its calls raise PopulateError when the store fails for good.

    Args:
        client, name: the collection.
        retries: further tries after a failure that may pass.
        stopped: when set, no further try is made and pauses end.
        layout: the payload keys of documents.
        copies: payload keys that text indexes read, which are no part of the documents.
        tenancy: the metadata key that names a document's tenant.
        modalities: of the media that slots read.

    `retrying` runs a call with retries; what it raises at last is its own error.
    """

    def __init__(
        self,
        client: QdrantBase,
        name: str,
        *,
        retries: int,
        stopped: threading.Event,
        layout: Layout = NATIVE,
        copies: Collection[str] = (),
        tenancy: Tenancy | None = None,
        modalities: Collection[str] = (),
    ) -> None:
        self.client, self.name = client, name
        self.layout, self._copies, self.tenancy = layout, list(copies), tenancy
        self.modalities = tuple(modalities)
        # The payload keys to fetch so that a point's tenant is known.
        self.tenant_fields = [field_of(layout, tenancy.field)] if tenancy else []
        self.retrying = retrying(retries, stopped)

    @classmethod
    def of(cls, handle: CollectionHandle, stopped: threading.Event) -> Self:
        """The store of the open collection."""
        view = handle.view
        return cls(
            handle.client,
            handle.name,
            retries=handle.populate_config.retries,
            stopped=stopped,
            layout=view.layout,
            copies=view.copies,
            tenancy=view.tenancy,
            modalities=sorted({slot.reading.modality for slot in view.slots.values()} - {"text"}),
        )

    def request(self, call: Callable[[], T], verb: str = "read from") -> T:
        """Make a call with retries.

        Raises:
            PopulateError: it failed for good; `verb` says what could not be done to the store.
            FingerprintMismatch, RegistryError, SwapError, StoreError: errors that say themselves what to do.
        """
        try:
            return self.retrying(call)
        except (FingerprintMismatch, RegistryError, SwapError, StoreDamaged, StoreFull, StoreReadOnly):
            raise  # raised by the metadata read (encoder, lease), or by the embedded store, whose error says what to do
        except Exception as error:
            if verb == "write to" and refuses_content(error):
                raise Refused from error
            raise PopulateError(
                f"cannot {verb} the store",
                where=f"collection {self.name!r}",
                got=reason_of(error),
                do="fix the store and run again: what it acknowledged is kept and not encoded again",
            ) from error

    def owned(self, points: Sequence[PointId]) -> dict[PointId, Mapping[str, Any] | None]:
        """Document id, hash, tenant and media of each existing point among `points`; None for a foreign point.

        In an adopted collection every point is a document, hashed here, and its payload is given too.
        """
        media = [f"{OWN}.{MEDIA}.{modality}.digest" for modality in self.modalities]
        fields = [*_OWN_FIELDS, *media, *self.tenant_fields]
        records = self.records(points, only=fields if self.layout == NATIVE else None)
        return {plain_id(record.id): self._own(record) for record in records}

    def records(self, points: Sequence[PointId], *, only: list[str] | None = None) -> list[models.Record]:
        """The existing ones of these points, with the whole document's payload, or `only` some keys."""
        read = partial(self.client.retrieve, self.name, points, with_payload=self._fields(only), with_vectors=False)
        return self.request(read)

    def points_of(self, ids: Sequence[str]) -> dict[str, PointId]:
        """The points of the documents with these ids. Call it only where point ids do not follow from document ids."""
        found: dict[str, PointId] = {}
        for record in self.scrolled(id_filter(ids, self.layout), id_fields(self.layout)):
            found.setdefault(from_payload(record.id, record.payload, self.layout).id, plain_id(record.id))
        return found

    def upsert(self, points: list[models.PointStruct]) -> None:
        """Write whole points; on return the store has acknowledged them.

        Raises:
            Refused: the store rejects the points' content.
        """
        self.request(partial(self.client.upsert, self.name, points, wait=True), "write to")

    def delete(self, points: Sequence[PointId]) -> None:
        """Delete points."""
        selector = models.PointIdsList(points=list(points))
        self.request(partial(self.client.delete, self.name, selector, wait=True), "delete from")

    def documents(self, tenant: str | None = None) -> Iterator[tuple[PointId, str, str | None]]:
        """Point id, document id and tenant of every point that diptych wrote, page by page; or of one tenant's points.

        In an adopted collection every point with a text counts.
        """
        layout = self.layout
        own_fields = list(_OWN_FIELDS) if layout == NATIVE else [*id_fields(layout), *text_fields(layout)]
        fields = [*own_fields, *self.tenant_fields]
        chosen = scope(self.tenancy, layout, tenant, f"collection {self.name!r}") if tenant is not None else None
        for record in self.scrolled(chosen, fields):
            stored = self._own(record)
            if stored and "id" in stored and stored.get("text", True):
                yield plain_id(record.id), str(stored["id"]), stored.get("tenant")

    def count(self, wanted: models.Filter | None = None) -> int:
        """Number of points, or of those that match a filter."""
        return self.request(partial(self.client.count, self.name, wanted, exact=True)).count

    def _own(self, record: models.Record) -> Mapping[str, Any] | None:
        payload = record.payload or {}
        if self.layout == NATIVE:
            found: Mapping[str, Any] | None = payload.get(OWN)
            tenant = {"tenant": tenant_of(payload, self.tenancy)} if found is not None and self.tenancy else {}
            return {**found, **tenant} if tenant and found is not None else found
        document = from_payload(record.id, payload, self.layout)
        known = {"id": document.id, "hash": document.content_hash(), "text": document.text, "payload": payload}
        return {**known, "tenant": tenant_of(document.metadata, self.tenancy)}

    def scrolled(self, chosen: models.Filter | None, fields: list[str] | None) -> Iterator[models.Record]:
        """All points that match `chosen`, page by page, with these payload keys; for None all documents."""
        wanted = self._fields(fields)
        for records in pages(lambda offset: self.request(partial(self._page, chosen, wanted, offset))):
            yield from records

    def _fields(self, only: list[str] | None) -> Any:
        """The payload to fetch: these keys, or the whole document's."""
        return only or (models.PayloadSelectorExclude(exclude=self._copies) if self._copies else True)

    def _page(self, chosen: models.Filter | None, fields: Any, start: Any) -> tuple[list[models.Record], Any]:
        return self.client.scroll(self.name, chosen, limit=PAGE, offset=start, with_payload=fields, with_vectors=False)


def lacking(generation: Generation) -> models.Filter:
    """A filter for points without the generation's vector, or without that of its first stage."""
    if generation.kind == "text_index":
        return models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key=generation.vector))])
    modality = generation.reading.modality
    # A document of media alone has no vector of text, and one of text alone none of media.
    must, must_not = ([], [is_textless()]) if modality == "text" else ([has_media(modality)], [])
    without = [
        models.Filter(must=must, must_not=[models.HasVectorCondition(has_vector=name), *must_not])
        for name in generation.vectors
    ]
    return without[0] if len(without) == 1 else models.Filter(should=without)


def retrying(retries: int, stopped: threading.Event) -> tenacity.Retrying:
    """Calls what it is given again after a failure that may pass, until `stopped` is set."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_any(tenacity.stop_after_attempt(retries + 1), tenacity.stop_when_event_set(stopped)),
        wait=tenacity.wait_exponential(FIRST_PAUSE, LONGEST_PAUSE) + tenacity.wait_random(0, FIRST_PAUSE),
        sleep=tenacity.sleep_using_event(stopped),
        reraise=True,
    )


def may_pass(error: BaseException) -> bool:
    """Whether the failure may be temporary; a refusal is not."""
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 500
        return status >= 500 or status in _WORTH_ANOTHER_TRY
    if isinstance(error, _OURS) or not isinstance(error, Exception) or grpc_code(error) in _GRPC_PERMANENT:
        return False
    return not isinstance(error, _PERMANENT)


def refuses_content(error: BaseException) -> bool:
    """Whether the store objects to the points themselves, so that it would accept the others."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _CONTENT
    if grpc_code(error) == "INVALID_ARGUMENT":
        return True
    return isinstance(error, ValueError | TypeError | CollectionError | DocumentError) and not isinstance(
        error, CollectionNotFound
    )
