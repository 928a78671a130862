"""`BackfillRun`: fills new vectors of a live collection while others write to it; `Backfill` is one pass of it.

A page is read, encoded and written, then read again: a document that changed between the two readings is encoded
again, so that no vector made from another text remains. Only then is it settled. Meanwhile the next pages are read,
encoded and written; at most a chunk is unsettled. The checkpoint follows once a second, because on a cluster all nodes
must agree on each one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from qdrant_client import models

from diptych.media import Media
from diptych.metadata.models import CollectionMetadata, State
from diptych.metadata.payloads import OWN, media_in, payload_of
from diptych.metadata.store import add_unread
from diptych.populate.disk_room import require_room_to_fill
from diptych.populate.encode import Outcomes, PiecePipeline, SlotEncoder, has_vector, taken_unread
from diptych.populate.media_references import store_references
from diptych.populate.pace import Pace, pace_of
from diptych.populate.points import PointMaker, Sender
from diptych.populate.store import Store, lacking
from diptych.populate.validate import Item
from diptych.slots.slot import Slot
from diptych.slots.unread import unread_warnings
from diptych.stores.scroll import plain_id
from diptych.stores.versions import is_server_client
from diptych.swap.apply_types import POINTS_SHOWN, ApplyContext
from diptych.swap.backfill.documents import document_of
from diptych.swap.gate.gate import coverage
from diptych.swap.lease import Checkpoint
from diptych.types import Document

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
        self.encoded: dict[str, int] = {}
        self.cache_hits: dict[str, int] = {}
        self.filled = Filled()
        self._referenced = False

    @property
    def left_shown(self) -> dict[int | str, str]:
        """The first points that were left without a vector, with the reasons."""
        return dict(islice(self.filled.left.items(), POINTS_SHOWN))

    def groups(self, slots: Mapping[str, Slot]) -> list[dict[str, Slot]]:
        """The slots that are filled side by side: all with `parallel`, else one at a time."""
        together = self._context.config.swap.parallel
        return ([dict(slots)] if slots else []) if together else [{vector: slot} for vector, slot in slots.items()]

    def fill(self, slots: Mapping[str, Slot]) -> None:
        """Fill these vectors in one pass.

        Raises:
            StoreFull: the disk has too little space for all of them; nothing was written.
        """
        self._store_references()
        client, name = self._handle.client, self._handle.name
        generations = [slot.generation for slot in slots.values() if slot.generation]
        lacking = [coverage(client, name, generation).missing for generation in generations]
        # The vectors of all slots are added up there, for as many points as the emptiest of them lacks.
        require_room_to_fill(self._handle, slots, max(lacking, default=0))
        self._count(slots, Backfill.run)

    def repair(self, metadata: CollectionMetadata, state: State, leave: Container[str] = ()) -> None:
        """Fill points that lack a vector of this state, except those in `leave`.

        Needed after a populate was killed during a cut-over, or when other programs write points.
        """
        self._store_references()
        view = self._handle.at(state, metadata)
        for name, generation in state.slots.items():
            vector = generation.vector
            if vector in leave:
                continue
            # After a killed repair no vector may be missing, yet some may be of texts that have changed since.
            interrupted = self._context.lease.interrupted_repairs([vector])
            if interrupted or coverage(self._handle.client, self._handle.name, generation).missing:
                self._count({vector: view.slots[name]}, Backfill.repair)

    def _store_references(self) -> None:
        """Store, once, references to media of points that another program has since added to an adopted collection."""
        layout = self._handle.view.layout
        if not self._referenced and layout.media:
            references = store_references(self._handle.client, self._handle.name, layout, self._handle.media)
            self._context.warnings.extend(references.warnings())
        self._referenced = True

    def _count(self, slots: Mapping[str, Slot], work: Callable[[Backfill], Filled]) -> None:
        """Do the work of a back-fill of these slots, and add up what it did."""

        def hits(slot: Slot) -> int:
            """Vectors of documents that the slot has had from the embedding cache so far."""
            return slot.namespace.hits if slot.namespace else 0

        before = {vector: hits(slot) for vector, slot in slots.items()}
        filled = work(Backfill(self._context, slots))
        for vector, slot in slots.items():
            self.encoded[vector] = self.encoded.get(vector, 0) + filled.encoded
            self.cache_hits[vector] = self.cache_hits.get(vector, 0) + hits(slot) - before[vector]
        self.filled.changed += filled.changed
        self.filled.left.update(filled.left)


class Backfill:
    """Fills the vectors of `slots` in one pass over the collection.

    Args:
        context: the apply that it belongs to: collection, lease, rate, pace and progress.
        slots: the slots to fill, by physical vector; their encoders run side by side.
    """

    def __init__(self, context: ApplyContext, slots: Mapping[str, Slot]) -> None:
        self._handle, self._slots = context.handle, slots
        handle, options, config = context.handle, context.options, context.config.swap
        self._lease, self._stopped, self._progress = context.lease, context.stopped, context.progress
        self._warnings = context.warnings
        self._rate, self._documents = config.rate, options.documents
        live = handle.read().live
        self._pace = pace_of(config.pace, handle.client, handle.name, live, context.stopped)
        self._store = Store.of(handle, context.stopped)
        self._readings = list(dict.fromkeys(slot.reading for slot in slots.values()))
        self._modalities = {reading.modality for reading in self._readings}
        if any(slot.reads_media for slot in (*slots.values(), *handle.view.slots.values())):
            self._store.with_media()
        self._media, self._points, self._sender = handle.media, PointMaker(handle.client), Sender(Pace())
        self._copied = {key: slot.reading for key, slot in slots.items() if slot.kind == "text_index"}
        self._encoders = {vector: SlotEncoder(slot) for vector, slot in slots.items() if slot.kind != "text_index"}
        pages = SERVER_PAGES if is_server_client(handle.client) else PAGES
        self._size = max(1, handle.populate_config.chunk // pages)  # of a page
        self._settled = self._saved = Checkpoint()  # how far points are settled, and how far the lease says so
        self._due = 0.0  # when the next checkpoint may be written
        self._told = 0  # documents, to the progress
        self.filled = Filled()

    def run(self) -> Filled:
        """Fill from the checkpoint to the end, then every point that still lacks a vector.

        Raises:
            PopulateError: the store or an encoder failed for good.
            ApplyRunning: another process has taken the lease.
        """
        for slot in self._slots.values():
            _ = slot.encoder  # one after another: some heavy packages cannot be imported in several threads at once
        with self._pace.applied(), self._sending():
            self._finish_interrupted()
            reached = [self._lease.checkpoints.get(vector, Checkpoint()) for vector in self._slots]
            start = reached[0] if all(checkpoint == reached[0] for checkpoint in reached) else Checkpoint()
            if not start.complete:
                self._pass(self._scrolled(start.offset), start.done)
            for _ in range(PASSES):
                if self._stopped.is_set() or not self._repaired():
                    break
        unread = taken_unread(self._encoders)
        add_unread(self._handle.client, self._handle.name, unread)
        self._warnings += unread_warnings({self._slots[vector].name: found for vector, found in unread.items()})
        return self.filled

    def repair(self) -> Filled:
        """Fill the points that lack a vector, and those of an interrupted repair."""
        with self._pace.applied(), self._sending():
            self._finish_interrupted()
            self._repaired()
        add_unread(self._handle.client, self._handle.name, taken_unread(self._encoders))
        return self.filled

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Within the block, requests may overlap where the pace allows it; none is on its way at the end."""
        with Sender(self._pace) as self._sender:
            yield

    def _finish_interrupted(self) -> None:
        """Write the points of a killed repair again, since their texts may have changed meanwhile."""
        if points := self._lease.interrupted_repairs(self._slots):
            self._repair(self._items(self._store.records(points, payload=self._store.texts)))
            self._note(())

    def _pass(self, pages: Iterable[tuple[list[Item], Any]], done: int) -> None:
        """Encode, write, check and record page after page, each step in a thread of its own.

        A page carries the offset of what follows it.
        """
        self._progress.begin("fill", max(0, self._store.count() - done))
        self._settled, self._saved, self._told = Checkpoint(done=done), Checkpoint(done=done), done
        offsets, sent = deque[Any](), deque[list[Future[int]]]()
        then = (partial(self._settle_page, offsets, sent), self._save)

        def put(page: Sequence[Item], outcomes: Outcomes) -> None:
            sent.append(self._begun(page, outcomes))

        room, begin = self._handle.populate_config.chunk // self._size, self._pace.begin
        stopped, encoders = self._stopped, lambda: self._encoders
        with PiecePipeline(encoders, put, then=then, room=room, stopped=stopped, begin=begin) as pipeline:
            for page, following in self._limited(pages):
                offsets.append(following)
                pipeline.put(page)
        if self._settled.done > self._told:  # a stopped apply skips `_save`
            self._tell(self._settled.done - self._told)
        cut_short = self._stopped.is_set() and (self._settled.offset is not None or self._settled.done == done)
        complete = Checkpoint(complete=True, done=done + self.filled.encoded)
        self._checkpoint(self._settled if cut_short else complete)

    def _settle_page(self, offsets: deque[Any], sent: deque[list[Future[int]]], page: Sequence[Item]) -> None:
        self._written(sent.popleft())
        self._recheck(page)
        self._settled = Checkpoint(offset=offsets.popleft(), done=self._settled.done + len(page))

    def _save(self, page: Sequence[Item]) -> None:
        """Move the checkpoint to what is settled, if it is due."""
        settled = self._settled
        if time.monotonic() >= self._due:
            self._checkpoint(settled)
            self._due = time.monotonic() + CHECKPOINT
        self._tell(len(page))

    def _tell(self, documents: int) -> None:
        self._told += documents
        self._progress.advance("fill", documents)

    def _checkpoint(self, reached: Checkpoint) -> None:
        if reached == self._saved or (reached.offset is None and not reached.complete):
            return
        self._saved = reached
        self._store.request(partial(self._lease.checkpoint, dict.fromkeys(self._slots, reached)))

    def _written(self, sent: Sequence[Future[int]]) -> None:
        """Wait until all these requests are over, and count the points that they gave vectors."""
        wait(sent)
        self.filled.encoded += sum(one.result() for one in sent)

    def _recheck(self, page: Sequence[Item]) -> None:
        """Read written points again, and rewrite what has changed, until nothing did."""
        while page := self._changed(page):
            self.filled.changed += len(page)
            self._written(self._begun(page, self._encoded(page)))

    def _without_failures(self, page: Sequence[Item], outcomes: Outcomes) -> list[int]:
        """The rows that get a vector of at least one slot; a point that a slot failed on is noted in `filled.left`."""
        rows = []
        for row, item in enumerate(page):
            reasons = [str(results[row]) for results in outcomes.values() if isinstance(results[row], str)]
            if reasons:
                self.filled.left[item.point] = reasons[0]
            else:
                self.filled.left.pop(item.point, None)
            if len(reasons) < len(outcomes):
                rows.append(row)
        return rows

    def _changed(self, page: Sequence[Item]) -> list[Item]:
        """The items whose text changed; equal payloads, the usual case, need no further check."""
        if not page:
            return []
        then = {item.point: item for item in page}
        records = self._store.records(list(then), payload=self._store.texts)
        others = [record for record in records if record.payload != then[plain_id(record.id)].held]
        return [item for item in self._items(others) if item.input != then[item.point].input]

    def _scrolled(self, offset: Any) -> Iterator[tuple[list[Item], Any]]:
        for records, following in self._store.pages(self._size, offset, payload=self._store.texts):
            yield self._items(records), following
            if self._stopped.is_set():
                return

    def _repaired(self) -> int:
        """Fill the points that lack a vector because others wrote them without; returns their number."""
        repaired = 0
        for items, _ in self._limited(self._lacking()):
            if self._stopped.is_set():
                break
            self._repair(items)
            repaired += len(items)
        if repaired:
            self._note(())
        return repaired

    def _repair(self, items: Sequence[Item]) -> None:
        self._note([item.point for item in items])
        self._written(self._begun(items, self._encoded(items)))
        self._recheck(items)

    def _note(self, points: Sequence[int | str]) -> None:
        """Keep which points are being repaired, in case this process is killed."""
        self._store.request(partial(self._lease.repairing, self._slots, points))

    def _lacking(self) -> Iterator[tuple[list[Item], None]]:
        lacking_any = models.Filter(
            should=[lacking(slot.generation) for slot in self._slots.values() if slot.generation]
        )
        for records, _ in self._store.pages(self._size, None, lacking_any, payload=self._store.texts):
            if items := self._items(record for record in records if record.id not in self.filled.left):
                yield items, None

    def _encoded(self, items: Sequence[Item]) -> Outcomes:
        if not items:
            return {}
        return {vector: encoder(items) for vector, encoder in self._encoders.items()}

    def _items(self, records: Iterable[models.Record]) -> list[Item]:
        """Points as items for the pipeline; those without text are noted in `filled.left`, those without media not."""
        items = []
        reason = "no text in the payload" if self._documents is None else "not in the source"
        for position, record in enumerate(records):
            point, layout = plain_id(record.id), self._handle.view.layout
            document = document_of(record, layout, self._documents, self._modalities)
            text = "" if document is None else self._read(document)
            if document is None or (not text and "text" in self._modalities and not document.media):
                self.filled.left[point] = reason
            elif text:
                items.append(Item(document, "", text, point, position, new=False, held=record.payload))
        return items

    def _read(self, document: Document) -> str:
        """All that the slots read of a document, to tell whether it changed."""
        found = (reading.input_of(document) for reading in self._readings)
        return "\n".join(entry.key if isinstance(entry, Media) else entry for entry in found if entry is not None)

    def _limited(self, pages: Iterable[tuple[list[Item], Any]]) -> Iterator[tuple[list[Item], Any]]:
        limit = Pace(rate=self._rate, stopped=self._stopped)
        for page, following in pages:
            limit.wait(len(page))
            yield page, following

    def _begun(self, page: Sequence[Item], outcomes: Outcomes) -> list[Future[int]]:
        """Begin to write new vectors, and the text for text indexes; for each request, how many points it fills."""
        rows = self._without_failures(page, outcomes)
        sent = [self._sent(partial(self._add_vectors, page, outcomes, part)) for part in self._pace.parts(rows)]
        # Copies go to the whole page, not to `rows`: an encoder that fails on a document does not concern a text index.
        copied = self._pace.parts(page) if self._copied else ()
        sent += [self._sent(partial(self._add_copies, part)) for part in copied]
        media = [page[row] for row in rows if page[row].document.media]
        # Only media that the point does not name yet, such as those of a source.
        news = [
            item for item in media if item.document.media.keys() - media_in((item.held or {}).get(OWN) or {}).keys()
        ]
        return [*sent, *(self._sent(partial(self._add_media, part)) for part in self._pace.parts(news))]

    def _sent(self, write: Callable[[], int]) -> Future[int]:
        """The request, sent; one that has failed already ends the back-fill before the next is made."""
        future = self._sender.send(write)
        if future.done():
            future.result()
        return future

    def _add_vectors(self, page: Sequence[Item], outcomes: Outcomes, rows: Sequence[int]) -> int:
        updates: list[models.PointVectors] = []
        for row in rows:
            made = {vector: outcome for vector, results in outcomes.items() if has_vector(outcome := results[row])}
            updates.append(self._points.update(page[row].point, made, self._slots))
        return len(rows) - len(self._store.add_vectors(updates))

    def _add_media(self, page: Sequence[Item]) -> int:
        """Write what a later swap, and `verify`, must know of media that came from a source."""
        # The hash covers media: with the old one, the next populate would take the same document for a changed one.
        hashed = self._store.layout.is_native
        self._store.add_payload(
            {
                item.point: {
                    **payload_of(item.document, self._media),
                    **({"hash": item.document.content_hash()} if hashed else {}),
                }
                for item in page
            },
            key=OWN,
        )
        return 0

    def _add_copies(self, page: Sequence[Item]) -> int:
        """Write what text-index slots index."""
        copied = self._copied.items()
        self._store.add_payload(
            {
                item.point: {key: reading.of(item.document.title, item.document.text) for key, reading in copied}
                for item in page
            }
        )
        return 0
