"""`RayEngine`: populate on a cluster of Ray; actors hold the encoders. Needs `pip install "diptych[ray]"`.

    notes.populate(documents, engine=RayEngine(workers=8, gpus=1))

This process reads, hashes, looks up what is new, and counts. Pieces go to the cluster in windows, each one run of Ray
Data; the next window is gathered while one is processed. Ray restarts a killed worker and gives it the piece again.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from diptych.config.models import CacheConfig, Config, SlotConfig
from diptych.errors import DiptychError, MissingExtra, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.media import MediaStore
from diptych.metadata.models import Generation, Reading
from diptych.populate.encode import Encoded, Piece, SlotEncoder, Targets, Work, Written, taken_unread
from diptych.populate.index import Indexer, MediaLosses
from diptych.populate.read_ahead import batched, read_ahead
from diptych.populate.rejects import Rejects, reason_of
from diptych.populate.store import Store
from diptych.populate.validate import Tally
from diptych.registry import Registry
from diptych.runtime.phases import Unwatched
from diptych.runtime.vendor_telemetry import quiet
from diptych.slots.cache import EmbeddingCache
from diptych.slots.calibration_texts import sample_size, texts_of
from diptych.slots.slot import Slot
from diptych.stores import open_store_of
from diptych.types import Document

Batch = Mapping[str, Any]

WINDOW = 200  # pieces per run of Ray Data, 100,000 documents by default; each run starts new workers


class RayEngine:
    """Encodes, and on a server writes, in workers of Ray.

    Args:
        workers: actors, each with all encoders.
        cpus, gpus: of the cluster, for each of them.
        registry: creates the registry in a worker; a function that can be imported there. By default everything
            installed.
        window: pieces, each of half a chunk, that go to the cluster together. Ray's object store holds their texts.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        cpus: float = 1,
        gpus: float = 0,
        registry: Callable[[], Registry] = Registry.default,
        window: int = WINDOW,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("the engine 'ray' needs ray", do='pip install "diptych[ray]"')
        self._workers, self._cpus, self._gpus = workers, cpus, gpus
        self._registry, self._window = registry, window

    def run(self, pieces: Iterator[Piece], work: Work) -> None:
        """Process all pieces, window after window.

        Raises:
            PopulateError: a worker could not make an encoder, encode or write; or Ray could not finish the work.
        """
        job = self._job(work)
        with connected():
            windows = batched(map(_put, pieces), self._window)
            read_ahead(windows, lambda found: self._windows(found, job, work), room=1, stopped=work.stopped)

    def _job(self, work: Work) -> WorkerJob:
        """The data for workers. They write themselves if they can open the store as this process did."""
        from diptych.stores.server_client import ServerClient

        handle = work.handle
        cache = handle.cache_config
        size = max((sample_size(encoder.slot.encoder) for encoder in work.targets.encoders.values()), default=0)
        sample = tuple(handle.texts.documents(size)) if size else ()
        if handle.config is not None and isinstance(handle.client, ServerClient):
            return WorkerJob(handle.name, self._registry, cache, config=handle.config, sample=sample)
        slots = tuple(
            (slot.name, slot.config, slot.generation)
            for slot in (encoder.slot for encoder in work.targets.encoders.values())
        )
        return WorkerJob(handle.name, self._registry, cache, slots, sample=sample, media=handle.media)

    def _windows(self, windows: Iterable[list[Any]], job: WorkerJob, work: Work) -> None:
        for window in windows:
            for items, done in self._answers(window, job):
                _take(pickle.loads(items), pickle.loads(done), work)
                if work.stopped.is_set():
                    return

    def _answers(self, window: list[Any], job: WorkerJob) -> Iterator[tuple[bytes, bytes]]:
        """The pieces of a window with their results, in order."""
        import ray.data

        workers = ray.data.ActorPoolStrategy(size=self._workers)
        mapped = ray.data.from_arrow_refs(window).map_batches(
            Worker,
            fn_constructor_kwargs={"job": job},
            batch_size=1,
            compute=workers,
            num_cpus=self._cpus,
            num_gpus=self._gpus,
        )
        try:
            for batch in mapped.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=1):
                yield from zip(batch["items"], batch["done"], strict=True)
        except ray.exceptions.RayError as error:
            last = (str(error).strip().splitlines() or ["no message"])[-1]
            raise PopulateError(
                "Ray could not finish the work",
                got=f"{type(error).__name__}: {last}",
                do="see Ray's logs, then run again: what was acknowledged is kept",
            ) from error


@contextmanager
def connected() -> Iterator[None]:
    """Connect to Ray: an existing connection, the cluster in RAY_ADDRESS, or a new Ray on this machine.

    Ray reports no usage to its makers.
    """
    quiet()
    import ray
    from ray.data import DataContext

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.execution_options.preserve_order
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.execution_options.preserve_order = before
        if started_here:
            ray.shutdown()


def _put(piece: Piece) -> Any:
    """The piece in Ray's object store."""
    import pyarrow as pa
    import ray

    return ray.put(pa.table({"items": pa.array(list(packed([piece])), pa.large_binary())}))


def _take(piece: Piece, done: Encoded | Written | Failure, work: Work) -> None:
    if isinstance(done, Failure):
        raise done.error()
    if isinstance(done, Written):
        work.written(done)
        return
    work.targets.note_elsewhere(done.hits, done.unread)
    work.deliver(piece, done.outcomes)


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """The data for a worker. `slots` are set if it only encodes, `config` if it also writes.

    `sample`: documents for encoders that read sample texts, the same for all workers.
    """

    name: str
    registry: Callable[[], Registry]
    cache: CacheConfig
    slots: tuple[tuple[str, SlotConfig, Generation | None], ...] = ()
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
            _ = slot.encoder  # created and verified
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
        refused, tally, before = Rejects(None, most=len(piece)), Tally(), _hits(self._targets.encoders)
        store = Store.of(self._handle)
        indexer = Indexer(self._handle, store, refused, tally, Unwatched(), self._targets, MediaLosses(store))
        outcomes = {vector: encoder(piece) for vector, encoder in self._targets.encoders.items()}
        indexer.deliver(piece, outcomes)
        hits = _difference(_hits(self._targets.encoders), before)
        unread = taken_unread(self._targets.encoders)
        return Written(tally.new, tally.changed, dict(tally.encoded), hits, unread, tuple(refused.examples))


def packed(objects: Iterable[object]) -> Any:
    """Objects as a column of bytes."""
    return np.array([pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in objects], dtype=object)


def _hits(encoders: Mapping[str, SlotEncoder]) -> dict[str, int]:
    """Number of vectors taken from the cache so far, by vector."""
    spaces = {vector: encoder.slot.namespace for vector, encoder in encoders.items()}
    return {vector: space.hits for vector, space in spaces.items() if space is not None}


def _difference(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {vector: number - before.get(vector, 0) for vector, number in now.items()}
