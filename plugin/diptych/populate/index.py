"""`Indexer`: of the items, those that are new or changed go through the pipeline into the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from diptych.encoding import Vector
from diptych.errors import PopulateError
from diptych.handle import CollectionHandle
from diptych.populate.aside import Aside, reason_of
from diptych.populate.encode import SlotEncoder
from diptych.populate.intake import Item, Tally
from diptych.populate.pipeline import Encoded, Pipeline
from diptych.populate.points import PointMaker, Ready, requests
from diptych.populate.progress import Progress
from diptych.populate.statistics import batched
from diptych.populate.store import Refused, Store

LOOKUP = 256  # documents whose hashes are asked for in one call
PIECES = 4  # a chunk is encoded and uploaded in so many pieces, so that both go on at once


class Indexer:
    """Skips unchanged documents, encodes the others and uploads them; `encoded` counts vectors by slot."""

    def __init__(self, handle: CollectionHandle, store: Store, aside: Aside, tally: Tally, progress: Progress) -> None:
        self._handle, self._store, self._aside, self._tally = handle, store, aside, tally
        self._progress = progress
        self._slots = {name: slot for name, slot in handle.slots.items() if slot.kind != "text_index"}
        self._points = PointMaker(handle.client, handle.slots)
        self.encoded = dict.fromkeys(self._slots, 0)

    def index(self, items: Iterable[Item], *, fresh: bool, stopped: threading.Event) -> None:
        """Bring `items` into the collection; `fresh` when it holds nothing yet.

        Raises:
            PopulateError: the store or an encoder failed for good.
        """
        chunk = self._handle.populate_config.chunk
        size = max(1, chunk // PIECES)
        wanted = items if fresh else self._wanted(items)
        encoders = {name: SlotEncoder(slot) for name, slot in self._slots.items()}
        with Pipeline(encoders, self._deliver, room=chunk // size, stopped=stopped) as pipeline:
            for number, piece in enumerate(batched(wanted, size)):
                if number == 0:
                    self._load_encoders()
                pipeline.put(piece)

    def _wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that the collection does not hold as they are."""
        for batch in batched(items, LOOKUP):
            held = self._store.owned([item.point for item in batch])
            for item in batch:
                if item.point not in held:
                    yield item
                    continue
                own = held[item.point] or {}
                if own.get("id") != item.document.id:
                    self._refuse(item, f"its point id {item.point!r} belongs to {_owner(own)}")
                elif own.get("hash") == item.hash:
                    self._tally.unchanged += 1
                    self._progress.advance("index", 1)
                else:
                    yield replace(item, new=False)

    def _load_encoders(self) -> None:
        """Make the encoders one after another: heavy packages do not like to be imported in several threads at once."""
        for slot in self._slots.values():
            _ = slot.encoder

    def _deliver(self, piece: Sequence[Item], outcomes: Encoded) -> None:
        ready: list[Ready] = []
        for row, item in enumerate(piece):
            vectors = {name: found[row] for name, found in outcomes.items()}
            reasons = [outcome for outcome in vectors.values() if isinstance(outcome, str)]
            if reasons:
                self._refuse(item, reasons[0])
            else:
                ready.append((item, self._points.point(item, _vectors(vectors))))
            for name, outcome in vectors.items():
                self.encoded[name] += not isinstance(outcome, str)
        self._upload(ready)

    def _upload(self, ready: Sequence[Ready]) -> None:
        refused = [pair for batch in requests(ready) for pair in self._written(batch)]
        if refused and len(refused) == len(ready) and (len(ready) > 1 or not self._tally.acknowledged):
            raise PopulateError(
                "the store refuses every document",
                where=f"collection {self._handle.name!r}",
                got=refused[0][1],
                do="check that the collection's vectors are the ones that the config describes",
            )
        for item, reason in refused:
            self._refuse(item, f"the store refuses it: {reason}")

    def _written(self, batch: Sequence[Ready]) -> list[tuple[Item, str]]:
        """Write the points; a request that is refused is halved until the points at fault are alone."""
        try:
            self._store.upsert([point for _, point in batch])
        except Refused as refusal:
            if len(batch) == 1:
                return [(batch[0][0], reason_of(refusal.__cause__ or refusal))]
            middle = len(batch) // 2
            return [*self._written(batch[:middle]), *self._written(batch[middle:])]
        changed = sum(not item.new for item, _ in batch)
        self._tally.changed += changed
        self._tally.new += len(batch) - changed
        self._progress.advance("index", len(batch))
        return []

    def _refuse(self, item: Item, reason: str) -> None:
        self._aside.add(item.document.id, item.position, reason)
        self._progress.advance("index", 1)


def _vectors(outcomes: Mapping[str, object]) -> dict[str, Vector]:
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, str)}  # type: ignore[misc]


def _owner(own: Mapping[str, object]) -> str:
    return f"document {own['id']!r}" if "id" in own else "a point that diptych did not write"
