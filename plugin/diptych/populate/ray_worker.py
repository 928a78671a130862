"""Ray's workers: each creates the encoders once, and processes piece after piece.

If the store is a server, a worker writes what it has encoded. Into an embedded store only the populating process
writes, so the vectors go back to it. In both cases a piece may be processed twice without harm: points have fixed ids.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from diptych.config.models import CacheConfig, Config, SlotConfig
from diptych.errors import DiptychError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.media import MediaStore
from diptych.metadata.models import Generation, Reading
from diptych.populate.encode import SlotEncoder, Targets, taken_unread
from diptych.populate.engine import Encoded, Piece, Written
from diptych.populate.index import Indexer
from diptych.populate.media_losses import MediaLosses
from diptych.populate.rejects import reason_of
from diptych.populate.store import Store
from diptych.populate.validate import Tally
from diptych.registry import Registry
from diptych.runtime.phases import Unwatched
from diptych.slots.cache import EmbeddingCache
from diptych.slots.calibration_texts import texts_of
from diptych.slots.slot import Slot
from diptych.stores import open_store_of
from diptych.types import Document

Batch = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """The data for a worker. `slots` are set if it only encodes, `config` if it also writes.

    `sample`: documents for encoders that read sample texts, the same for all workers.
    """

    name: str
    registry: Callable[[], Registry]
    cache: CacheConfig
    slots: tuple[tuple[str, SlotConfig, Generation], ...] = ()
    config: Config | None = None
    sample: tuple[Document, ...] = ()
    media: MediaStore | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a form that can be pickled: its text, since its objects may not survive."""

    what: str
    got: str = ""
    expected: str = ""
    do: str = ""
    where: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """From an error."""
        if isinstance(error, DiptychError):
            return cls(error.what, error.got, error.expected, error.do, error.where)
        return cls("a worker failed", reason_of(error))

    def error(self) -> PopulateError:
        """The error in this process."""
        where = f"{self.where}, in a Ray worker" if self.where else "a Ray worker"
        return PopulateError(self.what, where=where, got=self.got, expected=self.expected, do=self.do)


class Working(Protocol):
    """What a worker does with a piece."""

    def __call__(self, piece: Piece) -> Encoded | Written:
        """Process one piece."""
        ...


class Worker:
    """The class that Ray Data maps over the pieces. A failure is returned, since Ray would retry an exception."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self._working: Working | None = None

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Process the pieces of a batch; returns each with its result."""
        return {"items": batch["items"], "done": packed(self._done(items) for items in batch["items"])}

    def _done(self, items: bytes) -> Encoded | Written | Failure:
        try:
            if self._working is None:  # made here, so that an encoder that cannot be made comes back as a Failure too
                config = self._job.config
                self._working = Writing(self._job, config) if config else Encoding(self._job)
            return self._working(pickle.loads(items))  # pickled by this run's `ray_engine`
        except Exception as error:
            return Failure.of(error)


class Encoding:
    """Encodes, and returns the vectors."""

    def __init__(self, job: WorkerJob) -> None:
        cache = EmbeddingCache.open(job.cache)

        def texts(size: int, reading: Reading) -> list[str]:
            return texts_of(job.sample[:size], reading)

        slots = [
            Slot(name, config, generation, job.registry(), cache=cache, texts=texts, media=job.media)
            for name, config, generation in job.slots
        ]
        for slot in slots:
            slot.load_for_documents()
        self._encoders = {slot.vector: SlotEncoder(slot) for slot in slots}

    def __call__(self, piece: Piece) -> Encoded:
        """The outcomes of a piece."""
        before = _hits(self._encoders)
        outcomes = {vector: encoder(piece) for vector, encoder in self._encoders.items()}
        return Encoded(outcomes, _difference(_hits(self._encoders), before), taken_unread(self._encoders))


class Writing:
    """Encodes and writes."""

    def __init__(self, job: WorkerJob, config: Config) -> None:
        registry = job.registry()
        client = open_store_of(config, registry=registry, create=False)
        self._handle = CollectionHandle(client, job.name, config, registry)
        self._handle.texts.coming = job.sample
        self._targets = Targets(self._handle)
        self._targets.load()

    def __call__(self, piece: Piece) -> Written:
        """Write a piece; returns its result."""
        refused, tally, before = Refusals(), Tally(), _hits(self._targets.encoders)
        store = Store.of(self._handle, threading.Event())
        indexer = Indexer(self._handle, store, refused, tally, Unwatched(), self._targets, MediaLosses(store))
        outcomes = {vector: encoder(piece) for vector, encoder in self._targets.encoders.items()}
        indexer.deliver(piece, outcomes)
        hits = _difference(_hits(self._targets.encoders), before)
        unread = taken_unread(self._targets.encoders)
        return Written(tally.new, tally.changed, dict(tally.encoded), hits, unread, tuple(refused.entries))


class Refusals:
    """The documents of a piece that could not be written."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int, str]] = []

    def add(self, identifier: str, position: int, reason: str) -> None:
        """Add a document."""
        self.entries.append((identifier, position, reason))


def packed(objects: Iterable[object]) -> Any:
    """Objects as a column of bytes."""
    return np.array([pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in objects], dtype=object)


def _hits(encoders: Mapping[str, SlotEncoder]) -> dict[str, int]:
    """Number of vectors taken from the cache so far, by vector."""
    spaces = {vector: encoder.slot.namespace for vector, encoder in encoders.items()}
    return {vector: space.hits for vector, space in spaces.items() if space is not None}


def _difference(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {vector: number - before.get(vector, 0) for vector, number in now.items()}
