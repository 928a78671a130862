"""`Engine`: encodes and writes the pieces that populate has found to be new or changed.

The default is a `PiecePipeline`: one thread for each slot encodes, one for each later stage delivers, and work in
progress is bounded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from diptych.handle.collection_handle import CollectionHandle
from diptych.populate.encode import Outcome, SlotEncoder, Targets
from diptych.populate.validate import Item
from diptych.reports import UnreadTokens

Piece = list[Item]
Outcomes = Mapping[str, list[Outcome]]  # by physical vector, an outcome for each item of the piece
Deliver = Callable[[Sequence[Item], Outcomes], None]
Follow = Callable[[Sequence[Item]], None]
InProgress = tuple[Sequence[Item], dict[str, "Future[list[Outcome]]"]]


@dataclass(frozen=True, slots=True)
class Written:
    """The result of pieces written elsewhere: counts, three by vector, and rejected ones as id, position, reason."""

    new: int = 0
    changed: int = 0
    encoded: Mapping[str, int] = field(default_factory=dict)
    hits: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, UnreadTokens] = field(default_factory=dict)
    refused: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A piece encoded elsewhere: by vector its outcomes, the number of cache hits there, and what was not read."""

    outcomes: Mapping[str, list[Outcome]]
    hits: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, UnreadTokens] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """One populate as its engine sees it.

    Args:
        handle: the collection, which exists.
        targets: the slots to write, their encoders loaded; counts cache hits and unread tokens of other processes.
        room: pieces that may be encoded and not yet acknowledged.
        deliver: writes a piece with its outcomes; to be called in one thread.
        send, confirm: the two halves of `deliver`, each to be called in one thread, with the pieces in the same order:
            the first begins to write a piece, the second returns when it is acknowledged. `confirm` is None for a store
            that takes one call at a time, such as local mode: there `send` returns when the piece is acknowledged.
        written: counts what other processes wrote.
        stopped: set when the run is abandoned.
    """

    handle: CollectionHandle
    targets: Targets
    room: int
    deliver: Deliver
    send: Deliver
    confirm: Follow | None
    written: Callable[[Written], None]
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
        then = (work.confirm,) if work.confirm else ()
        with PiecePipeline(encoders, work.send, then=then, room=work.room, stopped=work.stopped) as pipeline:
            for piece in pieces:
                pipeline.put(piece)


class PiecePipeline:
    """Takes pieces of items, lets every slot encode them, and delivers them in order.

    On exit it waits until all pieces are delivered. Once a run fails or is stopped, no stage begins another piece. So
    no stage sees a piece that an earlier stage did not finish.

    Args:
        encoders: returns the encoders by physical vector; they may change between two pieces.
        deliver: uploads an encoded piece; called in one thread.
        then: further stages for a delivered piece; each runs in a thread of its own, in order.
        room: pieces that may be in progress at once, to the end of the last stage: the most that a crash can cost.
        stopped: set when the run is abandoned, so that waits in `deliver` end.
        begin: called first in each thread, if given.
    """

    def __init__(
        self,
        encoders: Callable[[], Mapping[str, SlotEncoder]],
        deliver: Deliver,
        *,
        then: Sequence[Follow] = (),
        room: int,
        stopped: threading.Event,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._encoders, self._deliver, self._then = encoders, deliver, then
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
                    self._deliver(piece, {name: future.result() for name, future in futures.items()})
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
