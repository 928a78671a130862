"""Reads and writes the points of a collection, with retries when the store fails temporarily.

`PointStore` reads pages and writes points, for copies, too. `Store` knows the documents in them, for populate and for a
back-fill, to which a point that was deleted meanwhile is no error. `points` makes the points and sends them.
`store_references` lets diptych read again the media that another program's payloads name: a payload key of an adopted
collection holds a path or URL. The file is read once, and a reference with its digest is stored in the payload, under
`_diptych.media`. The program's own keys stay as they are.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from diptych.errors import (
    CollectionError,
    CollectionNotFound,
    DiptychError,
    DocumentError,
    FingerprintMismatch,
    MediaError,
    PopulateError,
    RegistryError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    SwapError,
)
from diptych.handle.view import scope, tenant_of
from diptych.media import MediaStore
from diptych.metadata.models import Generation, Tenancy
from diptych.metadata.payloads import MEDIA, NATIVE, OWN, TEXTLESS, Layout, find, has_media, head, is_textless, quoted
from diptych.populate.rejects import reason_of
from diptych.stores.scroll import PointId, pages, plain_id
from diptych.stores.server_errors import error_line, grpc_code, is_refusal, not_found, refuses_key, retried
from diptych.stores.versions import is_local

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.handle.collection_handle import CollectionHandle

FIRST_PAUSE = 0.5  # seconds; each further pause is twice as long, with jitter
LONGEST_PAUSE = 30.0
PAGE = 1024  # points read or deleted in one call
TRIES = 20  # tries for a point that keeps being deleted and rewritten
REFERENCES = 64  # points whose files are read before their references are written
SHOWN = 3  # points that a warning names
LONGEST = 4096  # characters of a path or URL; a longer text holds the media itself
_OWN_FIELDS = (f"{OWN}.id", f"{OWN}.hash")  # not the whole key, which may also hold media with their bytes
_CONTENT = {400, 413, 422}  # HTTP statuses by which a store rejects the points of a write

T = TypeVar("T")


class Refused(Exception):
    """The store works, but refuses the content of a request's points; the cause says why."""


class PointStore:
    """One collection whose points are read page by page and written, with retries; base of all who do so.

    Args:
        client, name: the collection.
        retries: further tries after a failure that may pass.
        stopped: when set, no further try is made and pauses end.
    """

    # Errors that say themselves what to do: of the metadata read (encoder, lease), or of the embedded store.
    says_what_to_do: tuple[type[Exception], ...] = (
        FingerprintMismatch,
        RegistryError,
        SwapError,
        StoreDamaged,
        StoreFull,
        StoreReadOnly,
    )

    def __init__(self, client: QdrantBase, name: str, *, retries: int, stopped: threading.Event) -> None:
        self.client, self.name = client, name
        # In local mode a call fails during which another thread writes.
        self._turn = threading.RLock() if is_local(client) else nullcontext()
        self._retries, self._stopped = retries, stopped

    def request(self, call: Callable[[], T], verb: str = "read from") -> T:
        """Make a call with retries; `verb` says in errors what could not be done to the store.

        Raises:
            PopulateError: it failed for good; a subclass may raise another error.
            FingerprintMismatch, RegistryError, SwapError, StoreDamaged, StoreFull, StoreReadOnly: they say what to do.
        """
        exponents = (min(n, 16) for n in range(self._retries))
        try:
            with self._turn:
                return retried(
                    call,
                    pauses=(min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) + random.uniform(0, FIRST_PAUSE) for n in exponents),
                    may_pass=may_pass,
                    wait=lambda seconds: not self._stopped.wait(seconds),
                )
        except self.says_what_to_do:
            raise
        except Exception as error:
            raise self.failed(verb, error) from error

    def failed(self, verb: str, error: Exception) -> Exception:
        """The error of a call that failed for good."""
        if verb == "write to" and refuses_content(error):
            return Refused()
        return PopulateError(
            f"cannot {verb} the store",
            where=f"collection {self.name!r}",
            got=reason_of(error),
            do="fix the store and run again: what it acknowledged is kept and not encoded again",
        )

    def pages(
        self,
        size: int,
        start: Any = None,
        chosen: models.Filter | None = None,
        *,
        payload: Any = True,
        vectors: Any = False,
    ) -> Iterator[tuple[list[models.Record], PointId | None]]:
        """The points that match `chosen` by id from `start` on, each page with the id at which the next begins."""
        return pages(
            self.client, self.name, size, chosen, start=start, read=self.request, payload=payload, vectors=vectors
        )

    def records(self, points: Sequence[PointId], *, payload: Any = True, vectors: Any = False) -> list[models.Record]:
        """Those of these points that exist."""
        read = partial(self.client.retrieve, self.name, points, with_payload=payload, with_vectors=vectors)
        return self.request(read)

    def count(self, wanted: models.Filter | None = None) -> int:
        """Number of points, or of those that match a filter."""
        return self.request(partial(self.client.count, self.name, wanted, exact=True)).count

    def upsert(self, points: list[models.PointStruct]) -> None:
        """Write whole points in one request; on return the store has acknowledged them.

        Raises:
            Refused: the store rejects the points' content.
        """
        self.request(partial(self.client.upsert, self.name, points, wait=True), "write to")

    def delete(self, points: Sequence[PointId]) -> None:
        """Delete points."""
        selector = models.PointIdsList(points=list(points))
        self.request(partial(self.client.delete, self.name, selector, wait=True), "delete from")


class Store(PointStore):
    """One collection as populate and back-fills use it. Its calls raise PopulateError when the store fails for good.

    Args:
        client, name, retries, stopped: see `PointStore`.
        layout: the payload keys of documents.
        copies: payload keys that text indexes read, which are no part of the documents.
        tenancy: the metadata key that names a document's tenant.
        modalities: of the media that slots read.

    `texts`, the payload keys that hold documents' texts, are all that a back-fill reads; with `with_media` media, too.
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
        super().__init__(client, name, retries=retries, stopped=stopped)
        self.layout, self._copies, self.tenancy = layout, list(copies), tenancy
        self.modalities = tuple(modalities)
        # The payload keys to fetch so that a point's tenant is known.
        self.tenant_fields = [layout.field(tenancy.field)] if tenancy else []
        self.texts = layout.text_fields()

    @classmethod
    def of(cls, handle: CollectionHandle, stopped: threading.Event | None = None) -> Self:
        """The store of the open collection; `stopped` ends pauses between tries."""
        view = handle.view
        return cls(
            handle.client,
            handle.name,
            retries=handle.populate_config.retries,
            stopped=stopped or threading.Event(),
            layout=view.layout,
            copies=view.copies,
            tenancy=view.tenancy,
            modalities=sorted({slot.reading.modality for slot in view.slots.values()} - {"text"}),
        )

    def with_media(self) -> None:
        """Let `texts` include the keys of media."""
        self.texts = self.layout.text_fields(media=True)

    def owned(self, points: Sequence[PointId]) -> dict[PointId, Mapping[str, Any] | None]:
        """Document id, hash, tenant and media of each existing point among `points`; None for a foreign point.

        In an adopted collection every point is a document, hashed here, and its payload is given too.
        """
        media = [f"{OWN}.{MEDIA}.{modality}.digest" for modality in self.modalities]
        fields = [*_OWN_FIELDS, *media, *self.tenant_fields]
        records = self.records(points, payload=fields if self.layout.is_native else self.whole)
        return {plain_id(record.id): self._own(record) for record in records}

    def points_of(self, ids: Sequence[str]) -> dict[str, PointId]:
        """The points of the documents with these ids. Call it only where point ids do not follow from document ids."""
        found: dict[str, PointId] = {}
        for record in self.scrolled(self.layout.id_filter(ids), self.layout.id_fields()):
            found.setdefault(self.layout.read(record.id, record.payload).id, plain_id(record.id))
        return found

    def documents(self, tenant: str | None = None) -> Iterator[tuple[PointId, str, str | None]]:
        """Point id, document id and tenant of every point that diptych wrote, page by page; or of one tenant's points.

        In an adopted collection every point with a text counts.
        """
        layout = self.layout
        own_fields = list(_OWN_FIELDS) if layout.is_native else [*layout.id_fields(), *layout.text_fields()]
        fields = [*own_fields, *self.tenant_fields]
        chosen = scope(self.tenancy, layout, tenant, f"collection {self.name!r}") if tenant is not None else None
        for record in self.scrolled(chosen, fields):
            stored = self._own(record)
            if stored and "id" in stored and stored.get("text", True):
                yield plain_id(record.id), str(stored["id"]), stored.get("tenant")

    def _own(self, record: models.Record) -> Mapping[str, Any] | None:
        payload = record.payload or {}
        if self.layout.is_native:
            found: Mapping[str, Any] | None = payload.get(OWN)
            tenant = {"tenant": tenant_of(payload, self.tenancy)} if found is not None and self.tenancy else {}
            return {**found, **tenant} if tenant and found is not None else found
        document = self.layout.read(record.id, payload)
        known = {"id": document.id, "hash": document.content_hash(), "text": document.text, "payload": payload}
        return {**known, "tenant": tenant_of(document.metadata, self.tenancy)}

    def scrolled(self, chosen: models.Filter | None, fields: list[str] | None) -> Iterator[models.Record]:
        """All points that match `chosen`, with these payload keys; for None all documents."""
        for records, _ in self.pages(PAGE, None, chosen, payload=fields or self.whole):
            yield from records

    @property
    def whole(self) -> Any:
        """The payload to fetch for whole documents."""
        return models.PayloadSelectorExclude(exclude=self._copies) if self._copies else True

    def add_vectors(self, points: Sequence[models.PointVectors]) -> set[PointId]:
        """Give points these vectors beside those they have; returns the ids of points that are gone."""
        write = partial(self.client.update_vectors, self.name, wait=True)
        return self._without_gone({point.id: point for point in points}, write)

    def add_payload(self, payloads: Mapping[PointId, Mapping[str, Any]], key: str | None = None) -> set[PointId]:
        """Give each point these keys beside those it has; returns the ids of points that are gone."""
        operations = {
            point: models.SetPayloadOperation(
                set_payload=models.SetPayload(payload=dict(payload), points=[point], key=key)
            )
            for point, payload in payloads.items()
        }
        return self._without_gone(operations, partial(self.client.batch_update_points, self.name))

    def _without_gone(self, changes: Mapping[Any, Any], write: Callable[[list[Any]], object]) -> set[PointId]:
        """Write to each point that still exists; returns the ids of points that are gone.

        A store refuses the whole request for one missing point. That point may exist again at the next read, because
        its document was deleted and rewritten: then smaller requests are tried, which fewer such changes hit.
        """
        gone: set[PointId] = set()
        left, tries = dict(changes), 0
        while left:
            try:
                self.request(partial(write, list(left.values())), "write to")
                break
            except (Refused, PopulateError) as error:
                there = {plain_id(record.id) for record in self.records(list(left), payload=False)}
                missing = left.keys() - there
                deleted = isinstance(error.__cause__, CollectionNotFound)
                if deleted or not (missing or names_missing_point(error)):
                    if isinstance(error, PopulateError):
                        raise
                    raise PopulateError(
                        "the store refuses the new vectors",
                        where=f"collection {self.name!r}",
                        got=error_line(error.__cause__ or error),
                        do="run diptych apply again; if it fails again, roll back and check the encoder's options",
                    ) from error
            gone |= missing
            left = {point: change for point, change in left.items() if point not in missing}
            if missing:
                continue
            if len(left) > 1:
                items = list(left.items())
                halves = items[: len(items) // 2], items[len(items) // 2 :]
                return gone.union(*(self._without_gone(dict(half), write) for half in halves))
            tries += 1
            if tries == TRIES:  # its writers write the new vector too, or a repair fills it
                return gone | left.keys()
        return gone


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


def may_pass(error: BaseException) -> bool:
    """Whether the failure may be temporary. Refusals are not, nor errors in code; another try would end as this one."""
    if isinstance(error, DiptychError):
        return type(error) in (StoreError, StoreUnavailable)
    in_code = isinstance(error, KeyError | AttributeError | NotImplementedError) or not isinstance(error, Exception)
    return not (in_code or is_refusal(error) or refuses_key(error) or grpc_code(error) == "UNIMPLEMENTED")


def refuses_content(error: BaseException) -> bool:
    """Whether the store objects to the points themselves, so that it would accept the others."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _CONTENT
    if grpc_code(error) == "INVALID_ARGUMENT":
        return True
    return isinstance(error, ValueError | TypeError | CollectionError | DocumentError) and not isinstance(
        error, CollectionNotFound
    )


def names_missing_point(error: Exception) -> bool:
    """Whether a store refused a write because a point is not there; each of the clients says so in its own way."""
    cause = error.__cause__
    if isinstance(cause, KeyError) or "no point" in str(cause).lower():
        return True
    return cause is not None and not_found(cause) and "collection" not in error_line(cause).lower()


@dataclass(slots=True)
class StoredReferences:
    """What `store_references` did: references by modality, points whose media cannot be read, and some reasons."""

    stored: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """A sentence about media that cannot be read."""
        if not self.unreadable:
            return []
        points = f"media of {self.unreadable:,} points cannot be read"
        return [f"{points}, so that no other encoder can encode them: {'; '.join(self.reasons)}"]


def store_references(client: QdrantBase, name: str, layout: Layout, store: MediaStore) -> StoredReferences:
    """Store a reference for each point whose payload names media under `layout.media` and has no reference yet.

    Points that the other program rewrites or deletes meanwhile are left to the next call.
    """
    result = StoredReferences()
    for modality, key in layout.media.items():
        fields, chosen = [*layout.text_fields(), head(key)], without_reference(modality, key)
        for records, _ in pages(client, name, REFERENCES, chosen, payload=fields):
            operations: list[models.UpdateOperation] = []
            for record in records:
                try:
                    item = store.to_payload(store.take(modality, media_named(record.payload, key)))
                except MediaError as error:
                    result.unreadable += 1
                    if len(result.reasons) < SHOWN:
                        result.reasons.append(f"{record.id}: {reason_of(error)}")
                    continue
                operations += _changes(record, layout, key, modality, item)
                result.stored[modality] = result.stored.get(modality, 0) + 1
            if operations:
                client.batch_update_points(name, operations)
    return result


def reference_warnings(client: QdrantBase, name: str, layout: Layout) -> list[str]:
    """A sentence about points that another program has written since references were last stored."""
    counts = {
        of: client.count(name, count_filter=without_reference(of, key), exact=True).count
        for of, key in layout.media.items()
    }
    return [
        f"{count:,} points name {of} media under {layout.media[of]!r} but have no reference: apply reads them"
        for of, count in counts.items()
        if count
    ]


def media_named(payload: Mapping[str, Any] | None, key: str) -> Any:
    """What a payload names under a key of media; None if there is nothing."""
    return find(payload or {}, key) or None


def without_reference(modality: str, key: str) -> models.Filter:
    """A filter for points that name media under the key and have no reference to them."""
    named = models.IsEmptyCondition(is_empty=models.PayloadField(key=quoted(key)))
    missing = models.IsEmptyCondition(is_empty=models.PayloadField(key=f"{OWN}.{MEDIA}.{modality}"))
    nothing = models.FieldCondition(key=quoted(key), match=models.MatchValue(value=""))
    return models.Filter(must=[missing], must_not=[named, nothing])


def _changes(
    record: models.Record, layout: Layout, key: str, modality: str, item: Mapping[str, Any]
) -> Iterator[models.SetPayloadOperation]:
    """The updates of one point, which do nothing if it is gone or names other media by now."""
    raw, conditions = media_named(record.payload, key), list[models.Condition]()
    if isinstance(raw, str) and len(raw) <= LONGEST:
        conditions = [models.FieldCondition(key=quoted(key), match=models.MatchValue(value=raw))]
    same = models.Filter(must=[models.HasIdCondition(has_id=[record.id]), *conditions])

    def put(payload: Mapping[str, Any], key: str) -> models.SetPayloadOperation:
        return models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(payload), filter=same, key=key))

    yield put({modality: dict(item)}, f"{OWN}.{MEDIA}")
    document = layout.read(record.id, record.payload)
    if not (document.text.strip() or document.title.strip()):
        yield put({TEXTLESS: True}, OWN)
