"""`Indexer`: sends new and changed items through the pipeline into the store."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from diptych.errors import PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.tenancy import tenant_of
from diptych.metadata.payloads import points_are_free
from diptych.populate.encode import has_vector
from diptych.populate.engine import Engine, Outcomes, Threads, Work, Written
from diptych.populate.points import PointMaker, Ready, Refusal, Stale, Upload, refusals
from diptych.populate.read_ahead import batched, read_ahead
from diptych.populate.rejects import RejectSink
from diptych.populate.store import Gaps, Store
from diptych.populate.validate import Item, Tally, upon
from diptych.populate.write_targets import Targets
from diptych.runtime.phases import Progress

LOOKUP = 256  # documents whose hashes are read in one call, at most
FRESH = 1.0  # seconds: metadata read this recently is not read again before a write; after each write it is
# Pieces of a chunk: one is encoded while one is uploaded. Fewer, larger pieces pad less, since the encoder sorts each
# by length.
PIECES = 2


class _Sent(NamedTuple):
    """A piece on its way to the store: its outcomes, the rows that are written, and the requests.

    `known` are the vectors that its points have.
    """

    outcomes: Outcomes
    rows: list[int]
    known: frozenset[str]
    ready: list[Ready]
    requests: list[Future[list[Refusal]]]


class Indexer:
    """Skips unchanged documents; encodes and uploads the others. `encoded` counts vectors by slot."""

    def __init__(
        self,
        handle: CollectionHandle,
        store: Store,
        rejects: RejectSink,
        tally: Tally,
        progress: Progress,
        engine: Engine | None = None,
    ) -> None:
        self._handle, self._store, self._rejects, self._tally = handle, store, rejects, tally
        self._progress, self._engine = progress, engine or Threads()
        self._layout = handle.view.layout
        self._points = PointMaker(handle.client, self._layout, handle.media)
        self._upload = Upload(store)
        self._sent: deque[_Sent] = deque()  # pieces that are on their way to the store, in order
        self._counting = threading.Lock()
        self._looking, self._looked = threading.Lock(), -math.inf
        self.targets: Targets | None = None
        self.encoded = {name: 0 for name, slot in handle.slots.items() if slot.kind != "text_index"}

    def index(self, items: Iterable[Item], *, fresh: bool, stopped: threading.Event) -> None:
        """Write `items` to the collection; `fresh` if it is still empty.

        Raises:
            PopulateError: the store or an encoder failed for good.
        """
        chunk = self._handle.populate_config.chunk
        size = max(1, chunk // PIECES)
        self.targets = targets = self._store.looked(partial(Targets, self._handle))
        batches = batched(items, min(LOOKUP, size))
        work = partial(self._encode, targets, size, fresh, stopped)
        read_ahead(batches, work, room=max(1, chunk // LOOKUP), stopped=stopped)

    def compare(self, items: Iterable[Item], *, fresh: bool) -> None:
        """Count new, changed and unchanged documents; encodes and writes nothing."""
        for item in items if fresh else self.wanted(batched(items, LOOKUP)):
            if item.new:
                self._tally.new += 1
            else:
                self._tally.changed += 1

    def _encode(
        self, targets: Targets, size: int, fresh: bool, stopped: threading.Event, batches: Iterator[list[Item]]
    ) -> None:
        """Let the engine encode and write new and changed items, in pieces of `size`."""
        wanted = chain.from_iterable(batches) if fresh else self.wanted(batches)
        pieces = batched(wanted, size)
        first = next(pieces, None)
        if first is None:
            return
        targets.load()
        work = Work(
            handle=self._handle,
            targets=targets,
            room=max(1, self._handle.populate_config.chunk // size),
            deliver=partial(self.deliver, targets),
            send=partial(self.send if self._upload.overlaps else self.deliver, targets),
            confirm=partial(self.confirm, targets) if self._upload.overlaps else None,
            hits=targets.note_hits,
            unread=targets.note_unread,
            written=partial(self._note, targets),
            stopped=stopped,
        )
        try:
            self._engine.run(chain([first], pieces), work)
        finally:
            self._upload.close()
            while self._sent:  # after a failure, count the pieces that the store has taken all the same
                sent = self._sent.popleft()
                with contextlib.suppress(Exception):  # the failure that ended the run is the one to tell
                    self._settle(sent.ready, refusals(sent.requests))

    def _note(self, targets: Targets, done: Written) -> None:
        """Count what was written elsewhere."""
        for identifier, position, reason in done.refused:
            self._rejects.add(identifier, position, reason)
        for name, number in done.encoded.items():
            self.encoded[name] = self.encoded.get(name, 0) + number
        targets.note_hits(done.hits)
        targets.note_unread(done.unread)
        self._tally.new += done.new
        self._tally.changed += done.changed
        self._progress.advance("index", done.new + done.changed + len(done.refused))

    def wanted(self, batches: Iterable[list[Item]]) -> Iterator[Item]:
        """The items that are new, changed, or lack a vector; the others are counted."""
        gaps = Gaps(self._store, self._handle.metadata)
        for batch in map(self._placed, batches) if points_are_free(self._layout) else batches:
            points = [item.point for item in batch]
            held, incomplete = self._store.owned(points), gaps.among(points)
            for item in batch:
                if item.point not in held:
                    yield item
                    continue
                own = held[item.point] or {}
                if own.get("id") != item.document.id and not _is_mended(own):
                    self._reject(item, f"its point id {item.point!r} belongs to {_owner(own)}")
                    continue
                if own.get("tenant") not in (None, tenant_of(item.document.metadata, self._store.tenancy)):
                    self._reject(item, "another tenant has a document of this id; ids are unique in this collection")
                    continue
                item = upon(item, own["payload"], self._layout) if "payload" in own else item
                if own.get("hash") == item.hash and item.point not in incomplete:
                    self._tally.unchanged += 1
                    self._progress.advance("index", 1)
                else:
                    yield replace(item, new=False)

    def _placed(self, batch: Sequence[Item]) -> list[Item]:
        """The items, at the points of their stored documents if point ids do not follow from document ids."""
        points = self._store.points_of([item.document.id for item in batch])
        return [replace(item, point=points.get(item.document.id, item.point)) for item in batch]

    def deliver(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes) -> None:
        """Write a piece; if a swap began, cut over or finished meanwhile, with the vectors needed now."""
        self.send(targets, piece, outcomes)
        self.confirm(targets, piece)

    def send(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes) -> None:
        """Begin to write a piece."""
        self._count(targets, outcomes)
        if time.monotonic() - self._looked > FRESH:
            self._look(targets)
        self._sent.append(self._begun(targets, piece, outcomes))

    def confirm(self, targets: Targets, piece: Sequence[Item]) -> None:
        """Wait until the piece that was sent first is written, and write it anew if the vectors have changed."""
        sent = self._sent.popleft()
        while True:
            try:
                refused = refusals(sent.requests)
                if self._look(targets) == sent.known:
                    return self._settle(sent.ready, refused)
            except Stale:
                pass
            sent = self._begun(targets, piece, sent.outcomes, sent.rows)

    def _begun(
        self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes, rows: list[int] | None = None
    ) -> _Sent:
        """Begin to write these rows of a piece; unless they are given, the rows that can be written."""
        with self._looking:  # the slots of one look: the other thread may look again meanwhile
            slots, encoders = targets.slots, targets.encoders
        if outcomes.keys() != encoders.keys():  # for exactly the vectors to write now; missing ones are encoded
            more = {vector: encoder(piece) for vector, encoder in encoders.items() if vector not in outcomes}
            self._count(targets, more)
            outcomes = {vector: found for vector, found in {**outcomes, **more}.items() if vector in encoders}
        rows = self._accepted(targets, piece, outcomes) if rows is None else rows
        known, ready = frozenset(slots), self._points.ready(piece, outcomes, rows, slots)
        return _Sent(outcomes, rows, known, ready, self._upload.begin(ready, known, partial(self._look, targets)))

    def _look(self, targets: Targets) -> frozenset[str]:
        """Read which vectors are to be written now; one thread at a time."""
        with self._looking:
            self._store.looked(targets.refresh)
            self._looked = time.monotonic()
            return frozenset(targets.slots)

    def _accepted(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes) -> list[int]:
        """The rows with a vector for every live slot and no conflict with a text index; others are refused.

        `Intake` checks the text indexes that existed at the start. This checks those a swap added since.
        """
        live = [found for vector, found in outcomes.items() if targets.is_live(vector)]
        copies = [vector for vector, slot in targets.slots.items() if slot.kind == "text_index"]
        rows = []
        for row, item in enumerate(piece):
            reasons = [found[row] for found in live if isinstance(found[row], str)]
            reasons += [f"metadata uses the reserved key {key!r}" for key in copies if key in item.document.metadata]
            if reasons:
                self._reject(item, str(reasons[0]))
            else:
                rows.append(row)
        return rows

    def _count(self, targets: Targets, outcomes: Outcomes) -> None:
        with self._counting:  # a piece may be completed while the next one is sent
            for vector, found in outcomes.items():
                name = targets.name_of(vector)
                self.encoded[name] = self.encoded.get(name, 0) + sum(map(has_vector, found))

    def _settle(self, ready: Sequence[Ready], refused: Sequence[Refusal]) -> None:
        blamed = [refusal for refusal in refused if not refusal.own]
        if blamed and len(blamed) == len(ready) and (len(ready) > 1 or not self._tally.acknowledged):
            raise PopulateError(
                "the store refuses every document",
                where=f"collection {self._handle.name!r}",
                got=blamed[0].reason,
                do="check that the collection's vectors are the ones that the config describes",
            )
        out = set()
        for item, reason, own in refused:
            self._reject(item, reason if own else f"the store refuses it: {reason}")
            out.add(item.position)
        for item, _ in ready:
            if item.position not in out:
                self._tally.new += item.new
                self._tally.changed += not item.new
        self._progress.advance("index", len(ready) - len(out))

    def _reject(self, item: Item, reason: str) -> None:
        self._rejects.add(item.document.id, item.position, reason)
        self._progress.advance("index", 1)


def _is_mended(own: Mapping[str, Any]) -> bool:
    """Whether `diptych.collection.verify.mend` has marked the point, whose payload no longer names its document."""
    return "id" not in own and own.get("hash") == ""


def _owner(own: Mapping[str, object]) -> str:
    return f"document {own['id']!r}" if "id" in own else "a point that diptych did not write"
