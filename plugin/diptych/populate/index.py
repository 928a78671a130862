"""`Changes` finds the items that are new or changed; `Indexer` sends them through the pipeline into the store.

`MediaLosses` stops a run that would take the pictures, or other media, of many documents away. The usual cause is a
forgotten `--media COLUMN=MODALITY`: the rows then have no media, so every document looks changed. The stored hashes are
read before anything is written, and with them which media a document has.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from qdrant_client import models

from diptych.errors import DocumentError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import tenant_of
from diptych.metadata.models import CollectionMetadata
from diptych.metadata.payloads import MEDIA, has_media, media_of
from diptych.populate.encode import Engine, Outcomes, Targets, Work, has_vector
from diptych.populate.pace import Pace
from diptych.populate.points import PointMaker, Ready, Sender, Stale, Unwritable, refusals, requests
from diptych.populate.read_ahead import batched, read_ahead
from diptych.populate.rejects import Rejects, reason_of
from diptych.populate.store import Refused, Store, lacking
from diptych.populate.validate import Item, Tally
from diptych.runtime.phases import Progress
from diptych.stores.scroll import PointId, plain_id
from diptych.stores.versions import is_server_client

# A run is refused that takes media from more than this share of the documents that have some, both of those read so far
# and of all of them; of the latter more than MOST is enough.
SHARE = Fraction(1, 5)
MOST = 100  # documents
EXAMPLES = 5  # ids that the error names

LOOKUP = 256  # documents whose hashes are read in one call, at most
# Pieces of a chunk: one is encoded while one is uploaded. Fewer, larger pieces pad less, since the encoder sorts each
# by length.
PIECES = 2


class _Sent(NamedTuple):
    """A piece on its way to the store: its outcomes, the rows that are written, and the requests.

    `vectors` are the names of those that its points have.
    """

    outcomes: Outcomes
    rows: list[int]
    vectors: frozenset[str]
    ready: list[Ready]
    requests: list[Future[list[Unwritable]]]


@dataclass(frozen=True, slots=True)
class Changes:
    """Finds the items to write: new, changed, or without a vector. The others are counted or rejected."""

    store: Store
    rejects: Rejects
    tally: Tally
    progress: Progress
    losses: MediaLosses

    def among(self, batches: Iterable[list[Item]], metadata: CollectionMetadata | None) -> Iterator[Item]:
        """The items to write; `metadata` names the vectors that a point must have."""
        layout = self.store.layout
        gaps: list[models.Condition] | None = None  # counted when a document comes that may be unchanged
        for batch in batches:
            if layout.has_foreign_points:  # at the points of their stored documents
                stored_at = self.store.points_of([item.document.id for item in batch])
                batch = [replace(item, point=stored_at.get(item.document.id, item.point)) for item in batch]
            points = [item.point for item in batch]
            held = self.store.owned(points)
            self.losses.check(batch, held)  # before any of the batch is written
            # A document that has changed is written whole, whatever its point lacks. Adopted ones are compared below.
            known = [(item, held.get(item.point) or {}) for item in batch]
            same = [item.point for item, own in known if "payload" in own or own.get("hash") == item.hash]
            if same and gaps is None:
                live = metadata.live.slots.values() if metadata else ()
                gaps = [lacking(generation) for generation in live if generation.kind != "text_index"]
                if gaps and not self.store.count(models.Filter(should=gaps)):
                    gaps = []  # nothing lacks a vector, so no point needs to be checked
            incomplete = set[PointId]()
            if same and gaps:
                here = models.HasIdCondition(has_id=list(same))
                found = self.store.scrolled(models.Filter(must=[here], should=gaps), ["id"])
                incomplete = {plain_id(record.id) for record in found}
            for item in batch:
                if item.point not in held:
                    yield item
                    continue
                stored = held[item.point] or {}
                # `verify.mend` has marked the point, whose payload no longer names its document.
                is_mended = "id" not in stored and stored.get("hash") == ""
                if stored.get("id") != item.document.id and not is_mended:
                    named = f"document {stored['id']!r}" if "id" in stored else "a point that diptych did not write"
                    self.reject(item, f"its point id {item.point!r} belongs to {named}")
                    continue
                if stored.get("tenant") not in (None, tenant_of(item.document.metadata, self.store.tenancy)):
                    self.reject(item, "another tenant has a document of this id; ids are unique in this collection")
                    continue
                if "payload" in stored:  # the item as it will be after being merged into it
                    document = layout.as_written(item.document, item.point, stored["payload"])
                    content = document.content_hash()
                    item = replace(item, document=document, hash=content, held=stored["payload"])
                if stored.get("hash") == item.hash and item.point not in incomplete:
                    self.tally.unchanged += 1
                    self.progress.advance("index", 1)
                else:
                    yield replace(item, new=False)

    def reject(self, item: Item, reason: str) -> None:
        """Reject a document that passed the checks of its content."""
        self.rejects.add(item.document.id, item.position, reason)
        self.progress.advance("index", 1)


class Indexer:
    """Encodes and uploads what `Changes` finds, with the vectors that `targets` name."""

    def __init__(
        self,
        handle: CollectionHandle,
        store: Store,
        rejects: Rejects,
        tally: Tally,
        progress: Progress,
        targets: Targets,
        losses: MediaLosses,
    ) -> None:
        self._handle, self._store, self._rejects, self._tally = handle, store, rejects, tally
        self._progress, self._targets = progress, targets
        self._changes = Changes(store, rejects, tally, progress, losses)
        self._points = PointMaker(handle.client, store.layout, handle.media)
        # While a server handles some requests, the next are prepared; other stores get one at a time.
        self._pace = Pace(server=is_server_client(handle.client))
        self._sender = Sender(self._pace)
        self._sent: deque[_Sent] = deque()  # pieces that are on their way to the store, in order
        self._counting, self._refreshing = threading.Lock(), threading.Lock()

    def index(self, items: Iterable[Item], engine: Engine, *, is_new: bool, stopped: threading.Event) -> None:
        """Write `items` to the collection; `is_new` if it is still empty.

        Raises:
            PopulateError: the store or an encoder failed for good.
        """
        chunk = self._handle.populate_config.chunk
        size = max(1, chunk // PIECES)
        batches = batched(items, min(LOOKUP, size))
        work = partial(self._encode, engine, size, is_new, stopped)
        read_ahead(batches, work, room=max(1, chunk // LOOKUP), stopped=stopped)

    def _encode(
        self, engine: Engine, size: int, is_new: bool, stopped: threading.Event, batches: Iterator[list[Item]]
    ) -> None:
        """Let the engine encode and write new and changed items, in pieces of `size`."""
        wanted = chain.from_iterable(batches) if is_new else self._changes.among(batches, self._handle.view.metadata)
        pieces = batched(wanted, size)
        first = next(pieces, None)
        if first is None:
            return
        self._targets.load()
        overlaps = self._pace.in_flight > 1
        work = Work(
            handle=self._handle,
            targets=self._targets,
            room=max(1, self._handle.populate_config.chunk // size),
            write=self.begin_write if overlaps else self.write,
            finish_write=self.finish_write if overlaps else None,
            stopped=stopped,
        )
        try:
            engine.run(chain([first], pieces), work)
        finally:
            self._sender.__exit__()
            while self._sent:  # after a failure, count the pieces that the store has still accepted
                sent = self._sent.popleft()
                with contextlib.suppress(Exception):  # the failure that ended the run is the one to tell
                    self._count_written(sent.ready, refusals(sent.requests))

    def write(self, piece: Sequence[Item], outcomes: Outcomes) -> None:
        """Write a piece; if a swap began, cut over or finished meanwhile, with the vectors needed now."""
        self.begin_write(piece, outcomes)
        self.finish_write(piece)

    def begin_write(self, piece: Sequence[Item], outcomes: Outcomes) -> None:
        """Begin to write a piece."""
        self._count(outcomes)
        if not self._targets.is_recent:
            self._read_targets()
        self._sent.append(self._begun(piece, outcomes))

    def finish_write(self, piece: Sequence[Item]) -> None:
        """Wait until the piece that was sent first is written, and rewrite it if the vectors have changed."""
        sent = self._sent.popleft()
        while True:
            try:
                refused = refusals(sent.requests)
                if self._read_targets() == sent.vectors:
                    return self._count_written(sent.ready, refused)
            except Stale:
                pass
            sent = self._begun(piece, sent.outcomes, sent.rows)

    def _begun(self, piece: Sequence[Item], outcomes: Outcomes, rows: list[int] | None = None) -> _Sent:
        """Begin to write these rows of a piece; unless they are given, the rows that can be written."""
        with self._refreshing:  # the slots of one read: the other thread may read the metadata again meanwhile
            slots, encoders = self._targets.slots, self._targets.encoders
        if outcomes.keys() != encoders.keys():  # the vectors to write have changed since the piece was encoded
            more = {vector: encoder(piece) for vector, encoder in encoders.items() if vector not in outcomes}
            self._count(more)
            outcomes = {vector: found for vector, found in {**outcomes, **more}.items() if vector in encoders}
        if rows is None:  # those with a vector for every live slot
            live = [found for vector, found in outcomes.items() if vector in self._targets.live]
            # `Validator` checks the text indexes that existed at the start. This checks those a swap added since.
            copies = [vector for vector, slot in slots.items() if slot.kind == "text_index"]
            rows = []
            for row, item in enumerate(piece):
                reasons = [found[row] for found in live if isinstance(found[row], str)]
                metadata = item.document.metadata
                reasons += [f"metadata uses the reserved key {key!r}" for key in copies if key in metadata]
                if reasons:
                    self._changes.reject(item, str(reasons[0]))
                else:
                    rows.append(row)
        vectors, ready = frozenset(slots), self._points.ready(piece, outcomes, rows, slots)
        following, sent = iter(ready), list[Future[list[Unwritable]]]()
        for points in requests([point for _, point in ready], self._pace.most):
            batch = list(islice(following, len(points)))
            sent.append(self._sender.send(partial(self._written, batch, vectors)))
        return _Sent(outcomes, rows, vectors, ready, sent)

    def _written(self, batch: Sequence[Ready], vectors: frozenset[str]) -> list[Unwritable]:
        """Write the points, which have these vectors; a refused request is halved until the faulty ones are alone.

        Raises:
            Stale: the request named a vector that is no longer written, so the points are not at fault.
        """
        try:
            self._store.upsert([point for _, point in batch])
        except Refused as refusal:
            if self._read_targets() != vectors:
                raise Stale from refusal
            if len(batch) == 1:
                cause = refusal.__cause__ or refusal
                return [Unwritable(batch[0][0], reason_of(cause), isinstance(cause, DocumentError))]
            middle = len(batch) // 2
            return [*self._written(batch[:middle], vectors), *self._written(batch[middle:], vectors)]
        return []

    def _read_targets(self) -> frozenset[str]:
        """Read which vectors are to be written now; one thread at a time."""
        with self._refreshing:
            self._store.request(self._targets.refresh)
            return frozenset(self._targets.slots)

    def _count(self, outcomes: Outcomes) -> None:
        with self._counting:  # a piece may be completed while the next one is sent
            for vector, found in outcomes.items():
                self._tally.encoded[self._targets.name_of(vector)] += sum(map(has_vector, found))

    def _count_written(self, ready: Sequence[Ready], refused: Sequence[Unwritable]) -> None:
        blamed = [refusal for refusal in refused if not refusal.document_at_fault]
        if blamed and len(blamed) == len(ready) and (len(ready) > 1 or not self._tally.acknowledged):
            raise PopulateError(
                "the store refuses every document",
                where=f"collection {self._handle.name!r}",
                got=blamed[0].reason,
                do="check that the collection's vectors are the ones that the config describes",
            )
        out = set()
        for item, reason, document_at_fault in refused:
            self._changes.reject(item, reason if document_at_fault else f"the store refuses it: {reason}")
            out.add(item.position)
        for item, _ in ready:
            if item.position not in out:
                self._tally.new += item.new
                self._tally.changed += not item.new
        self._progress.advance("index", len(ready) - len(out))


class MediaLosses:
    """Counts the documents that would lose media that slots read, batch by batch, before each batch is written.

    Args:
        store: the collection; its `modalities` are those that slots read.
        allowed: any number of documents may lose their media.
        dry_run: nothing is refused; `warnings` says what would be.
    """

    def __init__(self, store: Store, *, allowed: bool = False, dry_run: bool = False) -> None:
        self._store, self._allowed, self._dry_run = store, allowed, dry_run
        self._had, self._lost = Counter[str](), Counter[str]()
        self._examples: dict[str, list[str]] = {}
        self._limits: dict[str, int] = {}

    def check(self, batch: Sequence[Item], stored: Mapping[PointId, Mapping[str, Any] | None]) -> None:
        """Count a batch, given what is stored of its documents.

        Raises:
            PopulateError: too many of the documents read so far would lose their media; the batch is not written.
        """
        if not self._store.modalities:
            return
        for item in batch:
            known = stored.get(item.point) or {}
            had = media_of(known["payload"]) if "payload" in known else known.get(MEDIA) or {}
            if known.get("id") != item.document.id:
                continue
            for modality in self._store.modalities:
                if modality not in had:
                    continue
                self._had[modality] += 1
                if modality not in item.document.media:
                    self._lost[modality] += 1
                    examples = self._examples.setdefault(modality, [])
                    examples += [item.document.id] if len(examples) < EXAMPLES else []
        if not self._dry_run and (refusal := self._refusal()):
            raise refusal

    def warnings(self) -> list[str]:
        """A sentence for each modality whose media some documents have lost, or would lose in a dry run."""
        if self._dry_run and (refusal := self._refusal()):
            return [f"populate would be refused: {refusal.what}: {refusal.do}"]
        verb = "would lose" if self._dry_run else "have lost"
        return [
            f"{lost:,} of the documents read {verb} their {modality}, which the source does not give: "
            f"{', '.join(self._examples[modality])}"
            for modality, lost in self._lost.items()
        ]

    def _refusal(self) -> PopulateError | None:
        if self._allowed:
            return None
        for modality, lost in self._lost.items():
            if lost <= SHARE * self._had[modality] or lost <= self._limit(modality):
                continue
            more = ", …" if lost > EXAMPLES else ""
            return PopulateError(
                f"{lost:,} of {self._had[modality]:,} documents read so far would lose their {modality}",
                where=f"collection {self._store.name!r}",
                got=f"no {modality} in the source for {', '.join(map(repr, self._examples[modality]))}{more}",
                expected=f"at most {self._limit(modality):,} that lose it",
                do=f"name the column of the media: --media COLUMN={modality}, in Python open_source(path, "
                f"media={{'COLUMN': {modality!r}}}); to take them away: --drop-media, in Python drop_media=True",
                lost=lost,
            )
        return None

    def _limit(self, modality: str) -> int:
        """How many documents may lose their media; counted before the run has written any that do."""
        if modality not in self._limits:
            held = self._store.count(has_media(modality))
            self._limits[modality] = max(1, min(MOST, int(SHARE * held)))
        return self._limits[modality]
