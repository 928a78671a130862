"""`RayEngine`: populate on a cluster of Ray; actors hold the encoders. Needs `pip install "diptych[ray]"`.

    notes.populate(documents, engine=RayEngine(workers=8, gpus=1))

This process reads, hashes, looks up what is new, writes and counts. Pieces go to the cluster in windows, each one run
of Ray Data; the next window is gathered while one is processed. Ray restarts a killed worker and gives it the piece
again.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.config.models import CacheConfig, SlotConfig
from diptych.errors import DiptychError, MissingExtra, PopulateError
from diptych.media import MediaStore
from diptych.metadata.models import Generation, Reading
from diptych.populate.encode import Outcome, Piece, SlotEncoder, Work, taken_unread
from diptych.populate.read_ahead import batched, read_ahead
from diptych.populate.rejects import reason_of
from diptych.registry import Registry
from diptych.reports import UnreadTokens
from diptych.runtime.vendor_telemetry import quiet
from diptych.slots.cache import EmbeddingCache
from diptych.slots.encode import sample_size, texts_of
from diptych.slots.slot import Slot
from diptych.types import Document

WINDOW = 200  # pieces per run of Ray Data, 100,000 documents by default; each run starts new workers


class RayEngine:
    """Encodes in workers of Ray; this process writes.

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
            PopulateError: a worker could not make an encoder or encode; or Ray could not finish the work.
        """
        job = self._job(work)

        def process(windows: Iterable[list[Any]]) -> None:
            for window in windows:
                for items, answer in self._answers(window, job):
                    piece, done = pickle.loads(items), pickle.loads(answer)
                    if isinstance(done, PopulateError):
                        raise done
                    work.targets.note_elsewhere(done.hits, done.unread)
                    work.write(piece, done.outcomes)
                    if work.finish_write is not None:
                        work.finish_write(piece)
                    if work.stopped.is_set():
                        return

        with connected():
            import pyarrow as pa
            import ray

            stored = (ray.put(pa.table({"items": pa.array(list(packed([one])), pa.large_binary())})) for one in pieces)
            read_ahead(batched(stored, self._window), process, room=1, stopped=work.stopped)

    def _job(self, work: Work) -> WorkerJob:
        handle = work.handle
        slots = [encoder.slot for encoder in work.targets.encoders.values()]
        size = max((sample_size(slot.encoder) for slot in slots), default=0)
        return WorkerJob(
            self._registry,
            handle.cache_config,
            tuple((slot.name, slot.config, slot.generation) for slot in slots),
            tuple(handle.texts.documents(size)) if size else (),
            handle.media,
        )

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


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """The data for a worker. `sample`: documents for encoders that read sample texts, the same for all workers."""

    registry: Callable[[], Registry]
    cache: CacheConfig
    slots: tuple[tuple[str, SlotConfig, Generation | None], ...]
    sample: tuple[Document, ...] = ()
    media: MediaStore | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded piece: by vector its outcomes, the number of cache hits, and what was not read."""

    outcomes: dict[str, list[Outcome]]
    hits: dict[str, int]
    unread: dict[str, UnreadTokens]


class Worker:
    """The class that Ray Data maps over the pieces. A failure is returned, since Ray would retry an exception."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self._encoders: dict[str, SlotEncoder] | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Process the pieces of a batch; returns each with its result."""
        return {"items": batch["items"], "done": packed(self._done(items) for items in batch["items"])}

    def _done(self, items: bytes) -> Encoded | PopulateError:
        try:
            return self.encode(pickle.loads(items))  # pickled by this run's `ray_engine`
        except Exception as error:
            # Its text alone: the error's objects may not survive pickling.
            if isinstance(error, DiptychError):
                where = f"{error.where}, in a Ray worker" if error.where else "a Ray worker"
                return PopulateError(error.what, where=where, got=error.got, expected=error.expected, do=error.do)
            return PopulateError("a worker failed", where="a Ray worker", got=reason_of(error))

    def encode(self, piece: Piece) -> Encoded:
        """The outcomes of a piece; the first call makes the encoders."""
        self._encoders = encoders = self._encoders or self._made()
        namespaces = {vector: encoder.slot.namespace for vector, encoder in encoders.items()}
        spaces = {vector: namespace for vector, namespace in namespaces.items() if namespace is not None}
        before = {vector: space.hits for vector, space in spaces.items()}
        outcomes = {vector: encoder(piece) for vector, encoder in encoders.items()}
        hits = {vector: space.hits - before[vector] for vector, space in spaces.items()}
        return Encoded(outcomes, hits, taken_unread(encoders))

    def _made(self) -> dict[str, SlotEncoder]:
        job, cache = self._job, EmbeddingCache.open(self._job.cache)

        def texts(size: int, reading: Reading) -> list[str]:
            return texts_of(job.sample[:size], reading)

        slots = [
            Slot(name, config, generation, job.registry(), cache=cache, texts=texts, media=job.media)
            for name, config, generation in job.slots
        ]
        for slot in slots:
            _ = slot.encoder  # created and verified
        return {slot.vector: SlotEncoder(slot) for slot in slots}


def packed(objects: Iterable[object]) -> Any:
    """Objects as a column of bytes."""
    return np.array([pickle.dumps(each, pickle.HIGHEST_PROTOCOL) for each in objects], dtype=object)
