"""`BackfillRun`: fills new vectors of a live collection while others write to it; `Backfill` is one pass of it.

A page is read, encoded and written, then read again: a document that changed between the two readings is encoded
again, so that no vector made from another text remains. Only then is it settled. Meanwhile the next pages are read,
encoded and written; at most a chunk is unsettled. The checkpoint follows once a second, because on a cluster all nodes
must agree on each one.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from qdrant_client import models

from diptych.media import Media
from diptych.metadata.models import CollectionMetadata, State
from diptych.metadata.payloads import OWN, media_of, payload_of
from diptych.metadata.store import add_unread
from diptych.populate.disk_room import require_room_to_fill
from diptych.populate.encode import Outcomes, PiecePipeline, SlotEncoder, has_vector, taken_unread
from diptych.populate.pace import Pace, pace_of
from diptych.populate.points import PointMaker, Sender
from diptych.populate.store import Store, lacking, store_references
from diptych.populate.validate import Item
from diptych.slots.encode import Vector
from diptych.slots.slot import Slot
from diptych.slots.unread import unread_warnings
from diptych.stores.scroll import plain_id
from diptych.stores.versions import is_server_client
from diptych.swap.apply_types import POINTS_SHOWN, ApplyContext
from diptych.swap.documents import document_of
from diptych.swap.lease import Checkpoint
from diptych.swap.vectors import coverage

PAGES = 4  # pages of a chunk, so that one is encoded while another is written
SERVER_PAGES = 2  # the same on a server, where every read is a request
CHECKPOINT = 1.0  # seconds between checkpoints; a kill costs these and a chunk
PASSES = 20  # most repair passes, while others keep writing without the vector


@dataclass(slots=True)
class Filled:
    """The result of a back-fill: vectors made, points that changed meanwhile, and points left without, with reasons."""

    encoded: int = 0
    changed: int = 0
    left: dict[int | str, str] = field(default_factory=dict)


class BackfillRun:
    """Runs the back-fills and repairs of an apply, and counts: `encoded` by vector, `filled` over all of them.

    Args:
        context: the apply's context.
    """

    def __init__(self, context: ApplyContext) -> None:
        self._context, self._handle = context, context.handle
        self.encoded, self.cache_hits = Counter[str](), Counter[str]()
        self.filled = Filled()
        self._referenced = False

    @property
    def left_shown(self) -> dict[int | str, str]:
        """The first points that were left without a vector, with the reasons."""
        return dict(islice(self.filled.left.items(), POINTS_SHOWN))

    def fill(self, slot: Slot) -> None:
        """Fill the slot's vector.

        Raises:
            StoreFull: the disk has too little space for it; nothing was written.
        """
        self._store_references()
        assert slot.generation is not None, "what is filled was announced"
        lacks = coverage(self._handle.client, self._handle.name, slot.generation).missing
        require_room_to_fill(self._handle, slot, lacks)
        self._run(slot, whole=True)

    def repair(self, metadata: CollectionMetadata, state: State, leave: Container[str] = ()) -> None:
        """Fill points that lack a vector of this state, except those in `leave`.

        Needed after a populate was killed during a cut-over, or when other programs write points.
        """
        self._store_references()
        view = self._handle.at(state, metadata)
        for name, generation in state.slots.items():
            if generation.vector in leave:
                continue
            # After a killed repair no vector may be missing, yet some may be of texts that have changed since.
            interrupted = self._context.lease.reached(generation.vector).repairing
            if interrupted or coverage(self._handle.client, self._handle.name, generation).missing:
                self._run(view.slots[name], whole=False)

    def _store_references(self) -> None:
        """Store, once, references to media of points that another program has since added to an adopted collection."""
        layout = self._handle.view.layout
        if not self._referenced and layout.media:
            references = store_references(self._handle.client, self._handle.name, layout, self._handle.media)
            self._context.warnings.extend(references.warnings())
        self._referenced = True

    def _run(self, slot: Slot, *, whole: bool) -> None:
        """Fill the slot's vector, or only the points that lack it, and add up what was done."""
        cached = slot.namespace
        hits = cached.hits if cached else 0
        filled = Backfill(self._context, slot).run(whole=whole)
        self.encoded[slot.vector] += filled.encoded
        self.cache_hits[slot.vector] += cached.hits - hits if cached else 0
        self.filled.changed += filled.changed
        self.filled.left.update(filled.left)


class Backfill:
    """Fills the vector of a slot in one pass over the collection.

    Args:
        context: the apply that it belongs to: collection, lease, rate, pace and progress.
        slot: the slot to fill.
    """

    def __init__(self, context: ApplyContext, slot: Slot) -> None:
        self._handle, self._slot, self._vector = context.handle, slot, slot.vector
        handle, config = context.handle, context.config.swap
        self._lease, self._stopped, self._progress = context.lease, context.stopped, context.progress
        self._warnings, self._documents = context.warnings, context.options.documents
        self._limit = Pace(rate=config.rate, stopped=context.stopped)
        live = handle.read().live
        self._pace = pace_of(config.pace, handle.client, handle.name, live, context.stopped)
        self._store = Store.of(handle, context.stopped)
        if any(each.reads_media for each in (slot, *handle.view.slots.values())):
            self._store.with_media()
        self._points, self._sender = PointMaker(handle.client), Sender(Pace())
        self._encoders = {} if slot.kind == "text_index" else {self._vector: SlotEncoder(slot)}
        pages = SERVER_PAGES if is_server_client(handle.client) else PAGES
        self._size = max(1, handle.populate_config.chunk // pages)  # of a page
        self._settled = self._saved = Checkpoint()  # how far points are settled, and how far the lease says so
        self._due = 0.0  # when the next checkpoint may be written
        self.filled = Filled()

    def run(self, *, whole: bool) -> Filled:
        """Fill from the checkpoint to the end if `whole`, then every point that still lacks the vector.

        Points of a repair that was interrupted are written again, since their texts may have changed meanwhile.

        Raises:
            PopulateError: the store or an encoder failed for good.
            ApplyRunning: another process has taken the lease.
        """
        _ = self._slot.encoder  # here, where its own error is raised
        with self._pace.applied(), Sender(self._pace) as self._sender:
            reached = self._lease.reached(self._vector)
            if reached.repairing:
                self._repair(self._items(self._store.records(reached.repairing, payload=self._store.texts)))
                self._note(())
            if whole and not reached.complete:
                self._pass(reached)
            for _ in range(PASSES if whole else 1):
                if self._stopped.is_set() or not self._repaired():
                    break
        unread = taken_unread(self._encoders)
        add_unread(self._handle.client, self._handle.name, unread)
        if whole and unread:
            self._warnings += unread_warnings({self._slot.name: unread[self._vector]})
        return self.filled

    def _pass(self, begin: Checkpoint) -> None:
        """Encode, write and settle page after page, each step in a thread of its own."""
        done = begin.done
        self._progress.begin("fill", max(0, self._store.count() - done))
        self._settled = self._saved = Checkpoint(done=done)
        offsets, sent = deque[Any](), deque[list[Future[int]]]()

        def put(page: Sequence[Item], outcomes: Outcomes) -> None:
            sent.append(self._begun(page, outcomes))

        def settle(page: Sequence[Item]) -> None:
            self._written(sent.popleft())
            self._recheck(page)
            self._settled = Checkpoint(offset=offsets.popleft(), done=self._settled.done + len(page))
            if time.monotonic() >= self._due:
                self._checkpoint(self._settled)
                self._due = time.monotonic() + CHECKPOINT
            self._progress.advance("fill", len(page))

        room, start = self._handle.populate_config.chunk // self._size, self._pace.begin
        with PiecePipeline(
            lambda: self._encoders, put, then=(settle,), room=room, stopped=self._stopped, begin=start
        ) as pipeline:
            # A page carries the offset of what follows it.
            for records, following in self._store.pages(self._size, begin.offset, payload=self._store.texts):
                page = self._items(records)
                self._limit.wait(len(page))
                offsets.append(following)
                pipeline.put(page)
                if self._stopped.is_set():
                    break
        cut_short = self._stopped.is_set() and (self._settled.offset is not None or self._settled.done == done)
        complete = Checkpoint(complete=True, done=done + self.filled.encoded)
        self._checkpoint(self._settled if cut_short else complete)

    def _checkpoint(self, reached: Checkpoint) -> None:
        if reached == self._saved or (reached.offset is None and not reached.complete):
            return
        self._saved = reached
        self._store.request(partial(self._lease.checkpoint, self._vector, reached))

    def _written(self, sent: Sequence[Future[int]]) -> None:
        """Wait until all these requests are over, and count the points that they gave vectors."""
        wait(sent)
        self.filled.encoded += sum(one.result() for one in sent)

    def _recheck(self, page: Sequence[Item]) -> None:
        """Read written points again, and rewrite those whose text has changed, until none has."""
        while page:
            then = {item.point: item for item in page}
            records = self._store.records(list(then), payload=self._store.texts)
            # Equal payloads, the usual case, need no further check.
            others = self._items(record for record in records if record.payload != then[plain_id(record.id)].held)
            page = [item for item in others if item.input != then[item.point].input]
            self.filled.changed += len(page)
            outcomes = {vector: encoder(page) for vector, encoder in self._encoders.items()}
            self._written(self._begun(page, outcomes))

    def _repaired(self) -> int:
        """Fill the points that lack the vector because others wrote them without; returns their number."""
        repaired, generation = 0, self._slot.generation
        lacks = lacking(generation) if generation else None
        for records, _ in self._store.pages(self._size, None, lacks, payload=self._store.texts):
            items = self._items(record for record in records if record.id not in self.filled.left)
            if not items:
                continue
            self._limit.wait(len(items))
            if self._stopped.is_set():
                break
            self._repair(items)
            repaired += len(items)
        if repaired:
            self._note(())
        return repaired

    def _repair(self, items: Sequence[Item]) -> None:
        self._note([item.point for item in items])
        outcomes = {vector: encoder(items) for vector, encoder in self._encoders.items()}
        self._written(self._begun(items, outcomes))
        self._recheck(items)

    def _note(self, points: Sequence[int | str]) -> None:
        """Keep which points are being repaired, in case this process is killed."""
        self._store.request(partial(self._lease.repairing, self._vector, points))

    def _items(self, records: Iterable[models.Record]) -> list[Item]:
        """Points as items for the pipeline; those without text are noted in `filled.left`, those without media not."""
        items, reading, layout = [], self._slot.reading, self._handle.view.layout
        reason = "no text in the payload" if self._documents is None else "not in the source"
        for position, record in enumerate(records):
            point = plain_id(record.id)
            document = document_of(record, layout, self._documents, reading.modality)
            given = None if document is None else reading.input_of(document)
            if document is None or (not given and reading.modality == "text" and not document.media):
                self.filled.left[point] = reason
            elif given:
                text = given.key if isinstance(given, Media) else given  # all that is read, to tell whether it changed
                items.append(Item(document, "", text, point, position, new=False, held=record.payload))
        return items

    def _begun(self, page: Sequence[Item], outcomes: Outcomes) -> list[Future[int]]:
        """Begin to write the vectors, or the text for a text index; for each request, how many points it fills."""
        if not self._encoders:
            return [self._sent(partial(self._add_copies, part)) for part in self._pace.parts(page)]
        filled = list[tuple[Item, Vector]]()
        for item, outcome in zip(page, outcomes[self._vector], strict=True):
            if has_vector(outcome):
                self.filled.left.pop(item.point, None)
                filled.append((item, outcome))
            else:
                self.filled.left[item.point] = str(outcome)
        sent = [self._sent(partial(self._add_vectors, part)) for part in self._pace.parts(filled)]
        # Only media that the point does not name yet, such as those of a source.
        news = [item for item, _ in filled if item.document.media.keys() - media_of(item.held).keys()]
        return [*sent, *(self._sent(partial(self._add_media, part)) for part in self._pace.parts(news))]

    def _sent(self, write: Callable[[], int]) -> Future[int]:
        """The request, sent; one that has failed already ends the back-fill before the next is made."""
        future = self._sender.send(write)
        if future.done():
            future.result()
        return future

    def _add_vectors(self, filled: Sequence[tuple[Item, Vector]]) -> int:
        slots = {self._vector: self._slot}
        updates = [self._points.update(item.point, {self._vector: vector}, slots) for item, vector in filled]
        return len(filled) - len(self._store.add_vectors(updates))

    def _add_media(self, page: Sequence[Item]) -> int:
        """Write what a later swap, and `verify`, must know of media that came from a source."""
        # The hash covers media: with the old one, the next populate would take the same document for a changed one.
        hashed = self._store.layout.is_native
        self._store.add_payload(
            {
                item.point: {
                    **payload_of(item.document, self._handle.media),
                    **({"hash": item.document.content_hash()} if hashed else {}),
                }
                for item in page
            },
            key=OWN,
        )
        return 0

    def _add_copies(self, page: Sequence[Item]) -> int:
        """Write what the text index indexes."""
        reading = self._slot.reading
        self._store.add_payload(
            {item.point: {self._vector: reading.of(item.document.title, item.document.text)} for item in page}
        )
        return 0
