"""`RayEngine`: populate on a cluster of Ray; actors hold the encoders. Needs `pip install "diptych[ray]"`.

    notes.populate(documents, engine=RayEngine(workers=8, gpus=1))

This process reads, hashes, looks up what is new, and counts. Pieces go to the cluster in windows, each one run of Ray
Data; the next window is gathered while one is processed. Ray restarts a killed worker and gives it the piece again.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from diptych.errors import MissingExtra, PopulateError
from diptych.populate.engine import Encoded, Piece, Work, Written
from diptych.populate.ray_worker import Failure, Worker, WorkerJob, packed
from diptych.populate.read_ahead import batched, read_ahead
from diptych.registry import Registry
from diptych.runtime.vendor_telemetry import quiet
from diptych.slots.calibration_texts import sample_size
from diptych.slots.slot import Slot

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
        slots = tuple(_sent(encoder.slot) for encoder in work.targets.encoders.values())
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


def _sent(slot: Slot) -> tuple[str, Any, Any]:
    """The data from which a worker makes the slot."""
    if slot.asking is not None and slot.asking.drift:
        raise PopulateError(
            "Ray's workers do not encode through a drift map",
            where=slot.where,
            do="populate without Ray until the swap is finished: diptych status",
        )
    return slot.name, slot.config, slot.generation
