"""The pipeline: a thread for each slot encodes, one for each later stage delivers; what is on its way is bounded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from diptych.populate.encode import Outcome, SlotEncoder, inputs_of
from diptych.populate.validate import Item

Encoded = Mapping[str, list[Outcome]]  # by physical vector, an outcome for each item of the piece
Deliver = Callable[[Sequence[Item], Encoded], None]
Follow = Callable[[Sequence[Item]], None]
Job = tuple[Sequence[Item], dict[str, "Future[list[Outcome]]"]]


class Pipeline:
    """Takes pieces of items, has every slot encode them, and delivers them in order. Leaving it waits for all.

    Once a run fails or is stopped, no stage begins with another piece. So no stage sees a piece that an earlier stage
    did not finish.

    Args:
        encoders: gives the encoders, by physical vector; they may change between two pieces.
        deliver: uploads an encoded piece; called in one thread.
        then: what is done with a delivered piece, one after another; each is called in a thread of its own, in order.
        room: pieces that may be on their way at once, to the end of the last stage, so what a crash can cost.
        stopped: set when the run is given up, so that whoever waits in `deliver` stops waiting.
        begin: called first in each thread.
    """

    def __init__(
        self,
        encoders: Callable[[], Mapping[str, SlotEncoder]],
        deliver: Deliver,
        *,
        then: Sequence[Follow] = (),
        room: int,
        stopped: threading.Event,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._encoders, self._deliver, self._then = encoders, deliver, then
        self._stopped, self._begin = stopped, begin
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._room = threading.Semaphore(room)
        self._jobs: list[queue.SimpleQueue[Job | None]] = [queue.SimpleQueue() for _ in range(1 + len(then))]
        self._failure: BaseException | None = None
        self._stages = [
            threading.Thread(target=self._run, args=(at,), name=f"follow-{at}" if at else "upload", daemon=True)
            for at in range(len(self._jobs))
        ]

    def __enter__(self) -> Self:
        for stage in self._stages:
            stage.start()
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
        if error is None or isinstance(error, Exception):
            self._raise_failure()

    def put(self, piece: Sequence[Item]) -> None:
        """Send a piece on its way, once there is room.

        Raises:
            BaseException: what ended an earlier piece's encoding or upload.
        """
        self._room.acquire()
        self._raise_failure()
        futures = {
            name: self._thread(name).submit(encoder, inputs_of(encoder, piece))
            for name, encoder in self._encoders().items()
        }
        self._jobs[0].put((piece, futures))

    def _thread(self, name: str) -> ThreadPoolExecutor:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, f"encode-{name}", self._begin)
        return self._threads[name]

    def _run(self, at: int) -> None:
        """Do the work of a stage: on each piece as it comes, which is then passed on. The last stage makes room."""
        try:
            self._begin()
        except BaseException as error:
            self._fail(error)  # and go on: whoever puts pieces waits for room
        following = self._jobs[at + 1] if at < len(self._then) else None
        while (job := self._jobs[at].get()) is not None:
            if self._failure is None and not self._stopped.is_set():
                self._finish(at, *job)
            if following is None:
                self._room.release()
            else:
                following.put((job[0], {}))
        if following is not None:
            following.put(None)

    def _finish(self, at: int, piece: Sequence[Item], futures: dict[str, Future[list[Outcome]]]) -> None:
        try:
            with contextlib.suppress(CancelledError):
                if at:
                    self._then[at - 1](piece)
                else:
                    self._deliver(piece, {name: future.result() for name, future in futures.items()})
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._stopped.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
