"""The pipeline: a thread for each slot encodes, one more uploads, and a bounded number of documents is on its way."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from diptych.populate.encode import Outcome, SlotEncoder, inputs_of
from diptych.populate.intake import Item

Encoded = Mapping[str, list[Outcome]]  # by physical vector, an outcome for each item of the piece
Deliver = Callable[[Sequence[Item], Encoded], None]
Job = tuple[Sequence[Item], dict[str, "Future[list[Outcome]]"]]


class Pipeline:
    """Takes pieces of items, has every slot encode them, and delivers them in order. Leaving it waits for all.

    Args:
        encoders: gives the stages, by physical vector; they may change between two pieces.
        deliver: uploads an encoded piece; called in one thread.
        room: pieces that may be on their way at once, so what a crash can cost.
        stopped: set when the run is given up, so that whoever waits in `deliver` stops waiting.
        begin: called first in each thread.
    """

    def __init__(
        self,
        encoders: Callable[[], Mapping[str, SlotEncoder]],
        deliver: Deliver,
        *,
        room: int,
        stopped: threading.Event,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._encoders, self._deliver, self._stopped, self._begin = encoders, deliver, stopped, begin
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._room = threading.Semaphore(room)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._uploader = threading.Thread(target=self._upload, name="upload", daemon=True)

    def __enter__(self) -> Self:
        self._uploader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped.set()
        self._jobs.put(None)
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=error is not None)
        self._uploader.join()
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
        self._jobs.put((piece, futures))

    def _thread(self, name: str) -> ThreadPoolExecutor:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, f"encode-{name}", self._begin)
        return self._threads[name]

    def _upload(self) -> None:
        try:
            self._begin()
        except BaseException as error:
            self._fail(error)  # and go on: whoever puts pieces waits for room
        while (job := self._jobs.get()) is not None:
            if self._failure is None and not self._stopped.is_set():
                self._finish(*job)
            self._room.release()

    def _finish(self, piece: Sequence[Item], futures: dict[str, Future[list[Outcome]]]) -> None:
        try:
            with contextlib.suppress(CancelledError):
                self._deliver(piece, {name: future.result() for name, future in futures.items()})
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._stopped.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
