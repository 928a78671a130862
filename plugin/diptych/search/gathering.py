"""`Gathering`: what several callers ask at the same time is done together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from diptych.errors import CollectionNotFound, StoreUnavailable

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
MOST = 64  # done together, so that none waits long for the others
THREADS = 16  # that answer one by one what could not be answered together
_FOR_ALL = (CollectionNotFound, StoreUnavailable)  # nobody gets an answer then


class Gathering(Generic[Ask, Answer]):
    """Answers callers of any threads and event loops.

    Whoever comes while nobody is at work is served at once, without waiting for others. What is asked meanwhile waits,
    and is then answered together: the more callers, the larger the batches. Where a batch fails, each of it is asked
    again alone, so that nobody gets another's error.

    Args:
        work: one answer for each of what is asked, in order.
    """

    def __init__(self, work: Callable[[Sequence[Ask]], Sequence[Answer]]) -> None:
        self._work = work
        self._waiting: deque[tuple[Ask, Future[Answer]]] = deque()
        self._busy = False
        self._lock, self._here = threading.Lock(), threading.local()
        # Its threads are made when needed, and end when this is let go.
        self._pool = ThreadPoolExecutor(THREADS, "diptych-search")

    def now(self, ask: Ask) -> Answer:
        """The answer, whoever else asks. Raises what `work` raises."""
        if getattr(self._here, "works", False):  # a caller inside of `work`, who would wait for himself
            return self._work([ask])[0]
        with self._lock:
            idle, self._busy = not self._busy, True
        if not idle:
            return self.later(ask).result()
        try:
            return self._worked([ask])[0]
        finally:
            self._pass_on()

    def later(self, ask: Ask) -> Future[Answer]:
        """The answer, when it is there. Who no longer wants it cancels the future."""
        future: Future[Answer] = Future()
        with self._lock:
            self._waiting.append((ask, future))
            idle, self._busy = not self._busy, True
        if idle:
            self._pool.submit(self._drain)
        return future

    def _pass_on(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
        if self._busy:
            self._pool.submit(self._drain)

    def _drain(self) -> None:
        """Answer what waits, and what comes meanwhile."""
        while batch := self._taken():
            self._answer([(ask, future) for ask, future in batch if future.set_running_or_notify_cancel()])
            self._let_ask_again(len(batch))

    def _let_ask_again(self, answered: int) -> None:
        """A turn for those who were answered: else the next batch is the first of them alone, and they never meet."""
        for _ in range(answered):
            if len(self._waiting) < answered:
                time.sleep(0)  # no time, only Python's lock

    def _taken(self) -> list[tuple[Ask, Future[Answer]]]:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            self._busy = bool(batch)
            return batch

    def _answer(self, batch: Sequence[tuple[Ask, Future[Answer]]]) -> None:
        try:
            answers = self._worked([ask for ask, _ in batch]) if batch else ()
        except Exception as error:
            for ask, future in batch:
                if len(batch) == 1 or isinstance(error, _FOR_ALL):
                    future.set_exception(error)
                else:
                    self._pool.submit(self._answer, [(ask, future)])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)

    def _worked(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        self._here.works = True
        try:
            return self._work(asks)
        finally:
            self._here.works = False
