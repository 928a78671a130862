"""`SlotEncoder` encodes for a slot and finds inputs that cannot be encoded. `Targets`: the slots that are written.

The vectors that each document needs change when a swap begins or ends during a populate. `Engine` encodes and writes
the pieces that are new or changed. The default is a `PiecePipeline`: one thread for each slot encodes, one for each
later stage writes, and work in progress is bounded.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeGuard

from diptych.errors import ContractError, DiptychError, FingerprintMismatch, MediaError, PopulateError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata
from diptych.metadata.store import add_unread, behind_key, update_metadata
from diptych.populate.rejects import reason_of
from diptych.populate.validate import Item
from diptych.reports import UnreadTokens
from diptych.slots.cache import Namespace
from diptych.slots.canaries import plain_documents
from diptych.slots.encode import Input, Vector, all_finite, is_finite
from diptych.slots.slot import Slot
from diptych.slots.unread import UnreadCounter, unread_warnings

Outcome = Vector | str | None  # a vector, the reason why there is none, or None where the document has no input
Piece = list[Item]
Outcomes = Mapping[str, list[Outcome]]  # by physical vector, an outcome for each item of the piece
Write = Callable[[Sequence[Item], Outcomes], None]
Follow = Callable[[Sequence[Item]], None]
InProgress = tuple[Sequence[Item], dict[str, "Future[list[Outcome]]"]]

MEDIA_AT_ONCE = 64  # inputs that are encoded again at most because one of them cannot be decoded
RECENT = 1.0  # seconds: metadata read this recently is not read again before a write; after each write it is
_CUT_OVER = "it became live while this run went on without it; diptych apply fills documents that miss its vectors"


def has_vector(outcome: Outcome) -> TypeGuard[Vector]:
    """Whether the outcome is a vector."""
    return outcome is not None and not isinstance(outcome, str)


@dataclass(slots=True)
class Busy:
    """When an encoder was working in a run: total seconds, and the first and last moment in ns since 1970."""

    seconds: float = 0.0
    began: int = 0
    ended: int = 0

    def note(self, began: int) -> None:
        """Record that it worked from then until now."""
        self.began, self.ended = self.began or began, time.time_ns()
        self.seconds += (self.ended - began) / 1e9


@dataclass(frozen=True, slots=True)
class SlotEncoder:
    """Encodes documents for one slot.

    When an encoder fails on a piece, a plain input shows whether it still works. If so, the piece is halved until the
    inputs that it fails on are alone; if not, the run stops. Media at fault are named by their error.
    """

    slot: Slot
    busy: Busy = field(default_factory=Busy)
    unread: UnreadCounter = field(default_factory=UnreadCounter)

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Return for each document its vector, the reason why it has none, or None where the encoder reads nothing.

        Raises:
            ContractError: the encoder breaks its contract.
            FingerprintMismatch: a remote encoder has become another one.
            PopulateError: the encoder no longer works.
        """
        reading = self.slot.reading
        inputs = [reading.input_of(item.document) for item in items]
        present = [given for given in inputs if given is not None]
        if not present:
            return [None] * len(items)
        began = time.time_ns()
        try:
            outcomes = self._outcomes(present)
        finally:
            self.busy.note(began)
        self.unread.count(self.slot, present, (time.time_ns() - began) / 1e9)
        following = iter(outcomes)
        return [None if given is None else next(following) for given in inputs]

    def _outcomes(self, inputs: Sequence[Input]) -> list[Outcome]:
        if self.slot.reads_media and len(inputs) > MEDIA_AT_ONCE:
            parts = (inputs[at : at + MEDIA_AT_ONCE] for at in range(0, len(inputs), MEDIA_AT_ONCE))
            return [outcome for part in parts for outcome in self._outcomes(part)]
        try:
            vectors = self.slot.encode("document", inputs)
        except (ContractError, FingerprintMismatch):
            raise
        except MediaError as error:
            return self._without(inputs, error)
        except Exception as error:
            try:
                self.slot.try_out()
            except Exception:
                raise PopulateError(
                    "an encoder fails even for plain inputs",
                    where=self.slot.where,
                    got=reason_of(error),
                    expected=f"a vector, even for {brief(plain_documents(self.slot.reading.modality)[0])}",
                    do="fix what it needs and run again: what is in the collection is not encoded again",
                ) from error
            return self._halves(inputs, error)
        if all_finite(vectors):
            return [*vectors]
        return [v if is_finite(v) else f"non-finite vector from {self.slot.where}" for v in vectors]

    def _without(self, inputs: Sequence[Input], error: MediaError) -> list[Outcome]:
        """The outcomes without the media that the error names."""
        readable = [given for given in inputs if given != error.media]
        if len(readable) == len(inputs):
            return self._halves(inputs, error)
        following = iter(self._outcomes(readable) if readable else ())
        return [
            f"{self.slot.where}: {reason_of(error)}" if entry == error.media else next(following) for entry in inputs
        ]

    def _halves(self, inputs: Sequence[Input], error: Exception) -> list[Outcome]:
        if len(inputs) == 1:
            return [f"the encoder of {self.slot.where} fails on it: {reason_of(error)}"]
        middle = len(inputs) // 2
        return [*self._outcomes(inputs[:middle]), *self._outcomes(inputs[middle:])]


def taken_unread(encoders: Mapping[str, SlotEncoder]) -> dict[str, UnreadTokens]:
    """What the encoders did not read since the last call, by vector."""
    taken = {vector: encoder.unread.take() for vector, encoder in encoders.items()}
    return {vector: unread for vector, unread in taken.items() if unread is not None}


class Targets:
    """The slots to write, by physical vector: the live ones, and those of a swap under way or not yet finished.

    Which slots are live is read from the metadata; the handle's view is renewed only by searches and may be old.
    An encoder of a live slot must work. One of a swap under way may be missing in this process: the process that
    applies the swap fills the gaps before the cut-over. One of an earlier generation may be gone for good: then its
    vectors are marked as behind, so that a rollback is refused unless it is forced, and the report says so.
    `looked` is when the metadata was last read, by `time.monotonic`; `live` are the slots that answered queries then,
    by vector.

    Args:
        handle: the collection, which exists.
        looked: when the handle's metadata was read; unless that is recent, it is read again.
    """

    def __init__(self, handle: CollectionHandle, looked: float = -math.inf) -> None:
        self._handle, self.looked = handle, looked
        self._metadata: CollectionMetadata | None = None
        self.live: Mapping[str, str] = {}
        self.encoders: Mapping[str, SlotEncoder] = {}
        self.warnings: list[str] = []
        self._given_up: set[str] = set()
        self.slots: Mapping[str, Slot] = self._wanted(handle.metadata if self.is_recent else None)
        self._busy: dict[str, Busy] = {}
        self._unread: dict[str, UnreadCounter] = {}  # by vector
        self._hits: dict[str, tuple[Namespace, int]] = {}  # by vector: whose hits, and how many before this run
        self._elsewhere: Counter[str] = Counter()  # by vector: hits in the caches of other processes

    def load(self, wanted: Mapping[str, Slot] | None = None) -> None:
        """Create the encoders one after another: heavy packages must not be imported in several threads at once.

        Args:
            wanted: the slots to write from now on, unless one of them fails; those of the last look unless given.

        Raises:
            DiptychError: one of a live slot cannot be made; nothing has changed, and the next look meets it again.
        """
        candidates = self.slots if wanted is None else wanted
        loaded: dict[str, Slot] = {}
        for vector, slot in candidates.items():
            try:
                _ = slot.encoder  # created and verified
            except Exception as error:
                if vector in self.live:
                    if vector in self._given_up:
                        error.add_note(_CUT_OVER)
                    raise
                self._give_up(vector, error)
            else:
                loaded[vector] = slot
        self.slots = loaded
        self.encoders = {
            vector: SlotEncoder(
                slot, self._busy.setdefault(vector, Busy()), self._unread.setdefault(vector, UnreadCounter())
            )
            for vector, slot in loaded.items()
            if slot.kind != "text_index"
        }  # replaced as a whole: another thread reads it
        for vector, slot in loaded.items():
            if (namespace := slot.namespace) is not None:
                self._hits.setdefault(vector, (namespace, namespace.hits))

    @property
    def is_recent(self) -> bool:
        """Whether the metadata was read so recently that it is not read again before a write."""
        return time.monotonic() - self.looked <= RECENT

    def refresh(self) -> bool:
        """Read the metadata again; returns whether the set of vectors to write has changed.

        Raises:
            DiptychError: the encoder of a slot that has become live cannot be made.
        """
        before = set(self.slots)
        wanted = self._wanted()
        # Compared by vector name: a number is never given twice, so equal names are equal generations.
        if wanted.keys() != before:
            self.load(wanted)
        return self.slots.keys() != before

    def busy(self) -> dict[str, Busy]:
        """When the encoders of this process were working, by slot, without idle ones."""
        return {self.name_of(vector): found for vector, found in self._busy.items() if found.began}

    def cache_hits(self) -> dict[str, int]:
        """Number of vectors from the cache in this run, by slot, without slots that are not cached."""
        hits: dict[str, int] = {}
        for vector, (namespace, before) in self._hits.items():
            name = self.name_of(vector)
            hits[name] = hits.get(name, 0) + namespace.hits - before + self._elsewhere[vector]
        return hits

    def unread(self) -> dict[str, UnreadTokens]:
        """What encoders did not read in this run, by slot, without those that read everything or do not say."""
        return {
            self.name_of(vector): counter.total for vector, counter in self._unread.items() if counter.total is not None
        }

    def keep_unread(self) -> list[str]:
        """Store what encoders did not read in this run; return all warnings, also where that is too much or unknown."""
        unread: dict[str, UnreadTokens] = {}
        live: dict[str, UnreadTokens] = {}
        failures = []
        for vector, counter in self._unread.items():
            failures += [counter.failure] if counter.failure else []
            if counter.total is not None:
                unread[vector] = counter.total
                live |= {self.name_of(vector): counter.total} if vector in self.live else {}
        if not unread:
            return [*self.warnings, *failures]
        add_unread(self._handle.client, self._handle.name, unread)
        return [*self.warnings, *failures, *unread_warnings(live)]

    def note_elsewhere(self, hits: Mapping[str, int], unread: Mapping[str, UnreadTokens]) -> None:
        """Add cache hits of another process, and what its encoders did not read, by vector."""
        self._elsewhere.update(hits)
        for vector, more in unread.items():
            self._unread.setdefault(vector, UnreadCounter()).add(more)

    def name_of(self, vector: str) -> str:
        """The name in reports: the slot's, or the vector's if it is not live."""
        return self.live.get(vector, vector)

    def _wanted(self, metadata: CollectionMetadata | None = None) -> dict[str, Slot]:
        """The vectors to write at this moment, without those this run has given up, unless they are live now."""
        if metadata is None:
            self.looked = time.monotonic()
            metadata = self._handle.read()
        self._metadata = metadata
        self.live = {generation.vector: name for name, generation in metadata.live.slots.items()}
        wanted = self._handle.writers(metadata)
        return {v: slot for v, slot in wanted.items() if v not in self._given_up or v in self.live}

    def _give_up(self, vector: str, error: Exception) -> None:
        self._given_up.add(vector)
        reason = error.what if isinstance(error, DiptychError) else reason_of(error)
        metadata = self._metadata
        building = metadata.swap.building.values() if metadata and metadata.swap else ()
        if metadata is None or any(generation.vector == vector for generation in building):
            self.warnings.append(f"vector {vector!r} is being built and was not written here: {reason}")
            return
        update_metadata(self._handle.client, self._handle.name, {behind_key(vector): True})
        self.warnings.append(
            f"vector {vector!r} of an earlier generation could not be written: {reason}. "
            "It misses this run's documents, so `diptych rollback` is refused without `--anyway`."
        )


@dataclass(frozen=True, slots=True)
class Work:
    """One populate as its engine sees it.

    Args:
        handle: the collection, which exists.
        targets: the slots to write, their encoders loaded; counts cache hits and unread tokens of other processes.
        room: pieces that may be encoded and not yet acknowledged.
        write, finish_write: each to be called in one thread, with the pieces in the same order: the first begins to
            write a piece with its outcomes, the second returns when it is acknowledged. `finish_write` is None for a
            store that takes one call at a time, such as local mode: there `write` returns when it is acknowledged.
        stopped: set when the run is abandoned.
    """

    handle: CollectionHandle
    targets: Targets
    room: int
    write: Write
    finish_write: Follow | None
    stopped: threading.Event


class Engine(Protocol):
    """Encodes every piece for each of the targets, and writes it."""

    def run(self, pieces: Iterator[Piece], work: Work) -> None:
        """Process all pieces; return when all are acknowledged.

        Raises:
            DiptychError: store or encoder failed for good.
        """
        ...


class Threads:
    """The default engine: in this process, a thread for each slot and two that write, one where a store wants that."""

    def run(self, pieces: Iterator[Piece], work: Work) -> None:
        """Process all pieces in a `PiecePipeline`."""
        encoders = lambda: work.targets.encoders  # noqa: E731  # they may change between two pieces
        then = (work.finish_write,) if work.finish_write else ()
        with PiecePipeline(encoders, work.write, then=then, room=work.room, stopped=work.stopped) as pipeline:
            for piece in pieces:
                pipeline.put(piece)


class PiecePipeline:
    """Takes pieces of items, lets every slot encode them, and writes them in order.

    On exit it waits until all pieces are written. Once a run fails or is stopped, no stage begins another piece. So
    no stage sees a piece that an earlier stage did not finish.

    Args:
        encoders: returns the encoders by physical vector; they may change between two pieces.
        write: writes an encoded piece; called in one thread.
        then: further stages for a written piece; each runs in a thread of its own, in order.
        room: pieces that may be in progress at once, to the end of the last stage: the most that a crash can cost.
        stopped: set when the run is abandoned, so that waits in `write` end.
        begin: called first in each thread, if given.
    """

    def __init__(
        self,
        encoders: Callable[[], Mapping[str, SlotEncoder]],
        write: Write,
        *,
        then: Sequence[Follow] = (),
        room: int,
        stopped: threading.Event,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._encoders, self._write, self._then = encoders, write, then
        self._stopped, self._begin = stopped, begin
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # Ctrl-C can break a Semaphore for the other thread
        for _ in range(room):
            self._room.put(None)
        self._jobs: list[queue.SimpleQueue[InProgress | None]] = [queue.SimpleQueue() for _ in range(1 + len(then))]
        self._failure: BaseException | None = None
        self._stages: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for at in range(len(self._jobs)):
            name = f"follow-{at}" if at else "upload"
            self._stages.append(threading.Thread(target=self._run, args=(at,), name=name, daemon=True))
            self._stages[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped.set()
        self._jobs[0].put(None)
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=error is not None)
        for stage in self._stages:
            stage.join()
        # Ctrl-C must not be replaced by a stage's failure.
        if self._failure is not None and (error is None or isinstance(error, Exception)):
            raise self._failure

    def put(self, piece: Sequence[Item]) -> None:
        """Send a piece into the pipeline, as soon as there is room.

        Raises:
            BaseException: what ended an earlier piece's encoding or upload.
        """
        self._room.get()
        if self._failure is not None:
            raise self._failure
        futures = {}
        for name, encoder in self._encoders().items():
            if name not in self._threads:
                self._threads[name] = ThreadPoolExecutor(1, f"encode-{name}", self._begin)
            futures[name] = self._threads[name].submit(encoder, piece)
        self._jobs[0].put((piece, futures))

    def _run(self, at: int) -> None:
        """Run a stage: process each piece as it comes, and pass it on. The last stage frees its room."""
        try:
            if self._begin is not None:
                self._begin()
        except BaseException as error:
            self._fail(error)  # keep running and free room, or `put` would wait for ever
        following = self._jobs[at + 1] if at < len(self._then) else None
        while (job := self._jobs[at].get()) is not None:
            piece, futures = job
            try:
                if self._failure is not None or self._stopped.is_set():
                    pass
                elif at:
                    self._then[at - 1](piece)
                else:
                    self._write(piece, {name: future.result() for name, future in futures.items()})
            except CancelledError:
                pass
            except BaseException as error:
                self._fail(error)
            if following is None:
                self._room.put(None)
            else:
                following.put((piece, {}))  # without the futures, whose vectors would stay in memory
        if following is not None:
            following.put(None)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._stopped.set()
