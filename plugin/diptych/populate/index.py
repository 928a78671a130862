"""`Indexer`: of the items, those that are new or changed go through the pipeline into the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from qdrant_client import models

from diptych.encoding import Vector
from diptych.errors import PopulateError
from diptych.handle import CollectionHandle
from diptych.populate.aside import Aside, reason_of
from diptych.populate.encode import SlotEncoder
from diptych.populate.intake import Item, Tally
from diptych.populate.pipeline import Encoded, Pipeline
from diptych.populate.points import PointMaker, requests
from diptych.populate.progress import Progress
from diptych.populate.statistics import batched
from diptych.populate.store import Store

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
            held = self._asked([item.point for item in batch])
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

    def _asked(self, points: list[int | str]) -> dict[int | str, Mapping[str, object] | None]:
        try:
            return self._store.owned(points)
        except Exception as error:
            raise store_failure("read from", self._handle.name, error) from error

    def _load_encoders(self) -> None:
        """Make the encoders one after another: heavy packages do not like to be imported in several threads at once."""
        for slot in self._slots.values():
            _ = slot.encoder

    def _deliver(self, piece: Sequence[Item], outcomes: Encoded) -> None:
        ready: list[tuple[Item, models.PointStruct]] = []
        for row, item in enumerate(piece):
            vectors = {name: found[row] for name, found in outcomes.items()}
            reasons = [outcome for outcome in vectors.values() if isinstance(outcome, str)]
            if reasons:
                self._refuse(item, reasons[0])
            else:
                ready.append((item, self._points.point(item, _vectors(vectors))))
            for name, outcome in vectors.items():
                self.encoded[name] += not isinstance(outcome, str)
        for batch in requests(ready):
            self._upload(batch)

    def _upload(self, batch: Sequence[tuple[Item, models.PointStruct]]) -> None:
        try:
            self._store.upsert([point for _, point in batch])
        except Exception as error:
            raise store_failure("write to", self._handle.name, error) from error
        changed = sum(not item.new for item, _ in batch)
        self._tally.changed += changed
        self._tally.new += len(batch) - changed
        self._progress.advance("index", len(batch))

    def _refuse(self, item: Item, reason: str) -> None:
        self._aside.add(item.document.id, item.position, reason)
        self._progress.advance("index", 1)


def store_failure(verb: str, name: str, error: Exception) -> PopulateError:
    """What a run says that ends because of the store."""
    return PopulateError(
        f"cannot {verb} the store",
        where=f"collection {name!r}",
        got=reason_of(error),
        do="see to the store and run again: what it acknowledged is kept and not encoded again",
    )


def _vectors(outcomes: Mapping[str, object]) -> dict[str, Vector]:
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, str)}  # type: ignore[misc]


def _owner(own: Mapping[str, object]) -> str:
    return f"document {own['id']!r}" if "id" in own else "a point that diptych did not write"
