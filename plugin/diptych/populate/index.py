"""`Indexer`: sends new and changed items through the pipeline into the store."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from diptych.errors import DocumentError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.tenancy import tenant_of
from diptych.metadata.payloads import points_are_free
from diptych.populate.encode import inputs_of
from diptych.populate.engine import Engine, Outcomes, Threads, Work, Written
from diptych.populate.points import PointMaker, Ready, requests
from diptych.populate.read_ahead import batched, read_ahead
from diptych.populate.rejects import SetsAside, reason_of
from diptych.populate.store import Gaps, Refused, Store
from diptych.populate.validate import Item, Tally, upon
from diptych.populate.write_targets import Targets
from diptych.runtime.phases import Progress
from diptych.stores.versions import keeps_log

LOOKUP = 256  # documents whose hashes are read in one call, at most
IN_FLIGHT, AT_ONCE = 2, 128  # requests under way to a server, and points of each
FRESH = 1.0  # seconds: metadata read this recently is not read again before a write; after each write it is
# Pieces of a chunk: one is encoded while one is uploaded. Fewer, larger pieces pad less, since the encoder sorts each
# by length.
PIECES = 2


class _Refusal(NamedTuple):
    """A document that cannot be written: the reason, and whether the document itself or the store is at fault."""

    item: Item
    reason: str
    own: bool


class _Stale(Exception):
    """A write was refused because the set of vectors to write has changed."""


class Indexer:
    """Skips unchanged documents; encodes and uploads the others. `encoded` counts vectors by slot."""

    def __init__(
        self,
        handle: CollectionHandle,
        store: Store,
        aside: SetsAside,
        tally: Tally,
        progress: Progress,
        engine: Engine | None = None,
    ) -> None:
        self._handle, self._store, self._aside, self._tally = handle, store, aside, tally
        self._progress, self._engine = progress, engine or Threads()
        self._layout = handle.view.layout
        self._points = PointMaker(handle.client, self._layout)
        self._overlaps = keeps_log(handle.client)
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
        self.targets = targets = Targets(self._handle)
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
            hits=targets.note_hits,
            written=partial(self._note, targets),
            stopped=stopped,
        )
        self._engine.run(chain([first], pieces), work)

    def _note(self, targets: Targets, done: Written) -> None:
        """Count what was written elsewhere."""
        for identifier, position, reason in done.refused:
            self._aside.add(identifier, position, reason)
        for name, number in done.encoded.items():
            self.encoded[name] = self.encoded.get(name, 0) + number
        targets.note_hits(done.hits)
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
                    self._refuse(item, f"its point id {item.point!r} belongs to {_owner(own)}")
                    continue
                if own.get("tenant") not in (None, tenant_of(item.document.metadata, self._store.tenancy)):
                    self._refuse(item, "another tenant has a document of this id; ids are unique in this collection")
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
        self._count(targets, outcomes)
        if time.monotonic() - self._looked > FRESH:
            self._look(targets)
        outcomes = self._completed(targets, piece, outcomes)
        rows = self._accepted(targets, piece, outcomes)
        while True:
            known = frozenset(targets.slots)
            ready = self._ready(targets, piece, outcomes, rows)
            try:
                refused = self._sent(targets, known, ready)
                if self._look(targets) == known:
                    return self._settle(ready, refused)
            except _Stale:
                pass
            outcomes = self._completed(targets, piece, outcomes)

    def _look(self, targets: Targets) -> frozenset[str]:
        """Read which vectors are to be written now; one thread at a time."""
        with self._looking:
            self._store.looked(targets.refresh)
            self._looked = time.monotonic()
            return frozenset(targets.slots)

    def _sent(self, targets: Targets, known: frozenset[str], ready: Sequence[Ready]) -> list[_Refusal]:
        """Write the points; while a server handles one request, the next is prepared.

        All requests are over when this returns: a late request could overwrite a repeated write.
        """
        batches = list(requests(ready, AT_ONCE if self._overlaps else None))
        if len(batches) < 2:
            return [pair for batch in batches for pair in self._written(targets, known, batch)]
        with ThreadPoolExecutor(IN_FLIGHT, "write") as writers:
            sent = [writers.submit(self._written, targets, known, batch) for batch in batches]
        return [pair for one in sent for pair in one.result()]

    def _completed(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes) -> Outcomes:
        """The outcomes for exactly the vectors to write now; missing ones are encoded."""
        if outcomes.keys() == targets.encoders.keys():
            return outcomes
        missing = {v: encoder for v, encoder in targets.encoders.items() if v not in outcomes}
        more = {vector: encoder(inputs_of(encoder, piece)) for vector, encoder in missing.items()}
        self._count(targets, more)
        return {vector: found for vector, found in {**outcomes, **more}.items() if vector in targets.encoders}

    def _accepted(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes) -> list[int]:
        """The rows with a vector for every live slot and no conflict with a text index; others are refused.

        `Intake` checks the text indexes that existed at the start. This checks those a swap added since.
        """
        live = [found for vector, found in outcomes.items() if targets.is_live(vector)]
        copies = {vector for vector, slot in targets.slots.items() if slot.kind == "text_index"}
        rows = []
        for row, item in enumerate(piece):
            reasons = [found[row] for found in live if isinstance(found[row], str)]
            if copies and (taken := copies & item.document.metadata.keys()):
                reasons += [f"metadata uses the reserved key {key!r}" for key in taken]
            if reasons:
                self._refuse(item, str(reasons[0]))
            else:
                rows.append(row)
        return rows

    def _ready(self, targets: Targets, piece: Sequence[Item], outcomes: Outcomes, rows: Iterable[int]) -> list[Ready]:
        """The points of these rows, each with its item."""
        columns = list(outcomes.items())
        made = (
            (piece[row], {vector: own for vector, found in columns if not isinstance(own := found[row], str)})
            for row in rows
        )
        return self._points.ready(made, targets.slots)

    def _count(self, targets: Targets, outcomes: Outcomes) -> None:
        for vector, found in outcomes.items():
            name = targets.name_of(vector)
            self.encoded[name] = self.encoded.get(name, 0) + sum(not isinstance(outcome, str) for outcome in found)

    def _settle(self, ready: Sequence[Ready], refused: Sequence[_Refusal]) -> None:
        blamed = [refusal for refusal in refused if not refusal.own]
        if blamed and len(blamed) == len(ready) and (len(ready) > 1 or not self._tally.acknowledged):
            raise PopulateError(
                "the store refuses every document",
                where=f"collection {self._handle.name!r}",
                got=blamed[0].reason,
                do="check that the collection's vectors are the ones that the config describes",
            )
        for item, reason, own in refused:
            self._refuse(item, reason if own else f"the store refuses it: {reason}")
        out = {refusal.item.position for refusal in refused}
        written = [item for item, _ in ready if item.position not in out]
        changed = sum(not item.new for item in written)
        self._tally.changed += changed
        self._tally.new += len(written) - changed
        self._progress.advance("index", len(written))

    def _written(self, targets: Targets, known: frozenset[str], batch: Sequence[Ready]) -> list[_Refusal]:
        """Write the points; a refused request is halved until the faulty points are alone.

        Raises:
            _Stale: the request named a vector that is no longer written, so the points are not at fault.
        """
        try:
            self._store.upsert([point for _, point in batch])
        except Refused as refusal:
            if self._look(targets) != known:
                raise _Stale from refusal
            if len(batch) == 1:
                cause = refusal.__cause__ or refusal
                own = isinstance(cause, DocumentError)
                return [_Refusal(batch[0][0], reason_of(cause), own)]
            middle = len(batch) // 2
            return [
                *self._written(targets, known, batch[:middle]),
                *self._written(targets, known, batch[middle:]),
            ]
        return []

    def _refuse(self, item: Item, reason: str) -> None:
        self._aside.add(item.document.id, item.position, reason)
        self._progress.advance("index", 1)


def _is_mended(own: Mapping[str, Any]) -> bool:
    """Whether `diptych.collection.verify.mend` has marked the point, whose payload no longer names its document."""
    return "id" not in own and own.get("hash") == ""


def _owner(own: Mapping[str, object]) -> str:
    return f"document {own['id']!r}" if "id" in own else "a point that diptych did not write"
