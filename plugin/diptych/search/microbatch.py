"""`MicroBatcher`: joins the requests of concurrent callers into batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

from diptych.errors import CollectionNotFound, Overloaded, StoreUnavailable
from diptych.runtime.panics import as_error, is_panic

Request = TypeVar("Request")
Answer = TypeVar("Answer")
MOST_REQUESTS = 64  # requests answered in one batch, at most, so that none waits long for the others
THREADS = 256  # the most threads; one starts when all others are busy, and a call that hangs keeps its thread
PATIENCE = 2.0  # seconds a batch may take before waiting requests stop waiting for it
PIECES = 8  # into which a stuck batch is divided: of 64 requests two divisions answer all but the one that hangs
_USUAL = 4  # a batch is stuck after this many times the slowest recent batch
Batch: TypeAlias = Sequence[tuple[Request, Future[Answer]]]
_FOR_ALL = (CollectionNotFound, StoreUnavailable)  # errors that every request of the batch would meet again alone


class MicroBatcher(Generic[Request, Answer]):
    """Answers callers of any threads and event loops.

    A request that arrives while no batch is running is answered at once, without waiting for others. Requests that
    arrive meanwhile wait and are then answered together: the more callers, the larger the batches. If a batch fails,
    each of its requests is repeated alone, so that each caller sees only its own error. Whatever `work` raises, panics
    of native code and SystemExit included, every caller gets an answer or an error, and later ones are answered.

    One thread at a time has the turn: it answers the waiting requests. If its batch takes longer than `patience`, the
    turn goes to another thread, so that a hanging call or a killed thread delays no other. A batch that is stuck, for
    longer than `patience` and than batches usually take, is repeated in pieces beside it, so that a request that hangs
    does not delay the others of its batch; the first answer counts. When `threads` calls hang, waiting and later
    requests get `Overloaded` until one of them ends.

    Args:
        work: returns one answer per request, in order.
        patience: seconds that a batch may take before others go on without it.
        threads: number of threads, at most.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Request]], Sequence[Answer]],
        *,
        patience: float = PATIENCE,
        threads: int = THREADS,
    ) -> None:
        self._work, self._patience = work, patience
        self._waiting: deque[tuple[Request, Future[Answer]]] = deque()
        self._turn: object | None = None  # token of the thread that has the turn
        self._since, self._looks = 0.0, False
        self._under_way: dict[object, tuple[float, Batch[Request, Answer]]] = {}  # start and batch, if of several
        self._slowest = 0.0  # seconds of the slowest recent batch
        self._lock, self._here = threading.Lock(), threading.local()
        # Threads start when needed, and end when this object is garbage-collected.
        self._pool = ThreadPoolExecutor(threads, "diptych-search")
        self._running, self._threads = 0, threads

    def answer(self, request: Request) -> Answer:
        """Return the answer. Raises what `work` raises."""
        if getattr(self._here, "works", False):  # a call from inside `work` would wait for itself
            return self._work([request])[0]
        turn = object()
        try:
            if self._took(turn):
                return self._worked([request])[0]
        except BaseException as error:
            if is_panic(error):
                raise as_error(error) from error
            raise
        finally:
            with self._lock:
                passes_on = self._turn is turn and bool(self._waiting)
                if self._turn is turn and not passes_on:
                    self._turn = None
            if passes_on:
                self._start(turn)
        return self.later(request).result()

    def later(self, request: Request) -> Future[Answer]:
        """Return a future of the answer. Cancelling one call does not affect the others."""
        future: Future[Answer] = Future()
        turn = object()
        with self._lock:
            self._waiting.append((request, future))
        if self._took(turn):
            self._start(turn)
        else:
            self._look_later()
        return future

    def _took(self, turn: object) -> bool:
        """Take the turn, unless a thread has it that can still be expected to finish."""
        with self._lock:
            if self._turn is not None and time.monotonic() - self._since < self._patience:
                return False
            self._turn, self._since = turn, time.monotonic()
            return True

    def _start(self, turn: object) -> None:
        """Answer the waiting requests in a thread of the pool, or here if Python is ending and starts no threads."""
        try:
            self._submit(self._drain, turn)
        except Overloaded as error:  # the turn goes back, and all waiting callers learn that there is no thread
            with self._lock:
                waiting = [*self._waiting]
                self._waiting.clear()
                if self._turn is turn:
                    self._turn = None
            _tell_error([entry for entry in waiting if entry[1].set_running_or_notify_cancel()], error)
        except RuntimeError:
            self._drain(turn)

    def _submit(self, call: Callable[[Any], None], argument: Any) -> None:
        """Let a thread of the pool make a call that never waits for another call of the pool."""
        with self._lock:
            if self._running >= self._threads:
                raise Overloaded(
                    f"{self._running} earlier calls have not ended",
                    got="a store, encoder or reranker that does not answer",
                    do="set a timeout for it; restart the process if this continues after it answers again",
                )
            self._running += 1

        def counted() -> None:
            try:
                call(argument)
            finally:
                with self._lock:
                    self._running -= 1

        try:
            self._pool.submit(counted)
        except RuntimeError:
            with self._lock:
                self._running -= 1
            raise

    def _look_later(self) -> None:
        """Make sure that waiting requests are handled even if the turn does not end in time."""
        with self._lock:
            if self._looks:
                return
            self._looks = True
        timer = threading.Timer(self._patience, self._look)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread can be started: the next request checks
            self._looks = False

    def _look(self) -> None:
        turn = object()
        self._looks = False
        with self._lock:  # the batches that have taken too long and are no longer waited for
            latest = time.monotonic() - max(self._patience, _USUAL * self._slowest)
            keys = [key for key, (began, _) in self._under_way.items() if began <= latest]
            stuck = [self._under_way.pop(key)[1] for key in keys]
        # Each is repeated in pieces for those of its callers who have no answer.
        sizes = [-(-len(batch) // PIECES) for batch in stuck]
        pieces = (
            batch[start : start + size]
            for batch, size in zip(stuck, sizes, strict=True)
            for start in range(0, len(batch), size)
        )
        for piece in pieces:
            try:
                self._submit(self._answer, piece)
            except Overloaded as error:
                _tell_error(piece, error)
            except RuntimeError:  # Python is ending: the batch itself may still be answered
                break
        if self._waiting and self._took(turn):
            self._start(turn)
        if self._waiting or self._under_way:
            self._look_later()

    def _drain(self, turn: object) -> None:
        """Answer waiting and newly arriving requests as long as this thread has the turn."""
        while True:
            with self._lock:
                if self._turn is not turn:
                    return
                batch = [self._waiting.popleft() for _ in range(min(MOST_REQUESTS, len(self._waiting)))]
                self._turn, self._since = turn if batch else None, time.monotonic()
            if not batch:
                return
            self._answer([(request, future) for request, future in batch if future.set_running_or_notify_cancel()])
            # Let callers just answered queue again before the next batch; else it holds only the first of them. Then
            # the others would find a batch running again and again, and never be joined with the first.
            for _ in batch:
                if len(self._waiting) < len(batch):
                    time.sleep(0)  # releases the GIL

    def _answer(self, pending: Batch[Request, Answer]) -> None:
        batch = [(request, future) for request, future in pending if not future.done()]
        if not batch:
            return
        key, began = object(), time.monotonic()
        if len(batch) > 1:
            with self._lock:
                self._under_way[key] = began, batch
            self._look_later()
        try:
            answers = self._worked([request for request, _ in batch])
            answered = list(zip(batch, answers, strict=True))
        except BaseException as error:  # in a thread of the pool any error goes to the waiting callers
            if len(batch) == 1 or self._ended(key):  # else it is being repeated in pieces already
                self._failed(batch, error)
            return
        self._ended(key)
        self._slowest = max(time.monotonic() - began, 0.9 * self._slowest)
        for (_, future), answer in answered:
            with suppress(InvalidStateError):  # a piece was faster
                future.set_result(answer)

    def _ended(self, key: object) -> bool:
        """Mark a batch as ended; False if it had been abandoned before."""
        with self._lock:
            return self._under_way.pop(key, None) is not None

    def _failed(self, batch: Batch[Request, Answer], error: BaseException) -> None:
        shared = len(batch) > 1 and not isinstance(error, _FOR_ALL)
        for request, future in batch:
            try:
                if not shared:
                    raise error
                self._submit(self._answer, [(request, future)])
            except BaseException as raised:  # `error`, or no thread could be had
                _tell_error([(request, future)], as_error(error if isinstance(raised, RuntimeError) else raised))

    def _worked(self, requests: Sequence[Request]) -> Sequence[Answer]:
        self._here.works = True
        try:
            return self._work(requests)
        finally:
            self._here.works = False


def _tell_error(batch: Batch[Request, Answer], error: BaseException) -> None:
    """Deliver the error to callers without an answer."""
    for _, future in batch:
        with suppress(InvalidStateError):
            future.set_exception(error)
