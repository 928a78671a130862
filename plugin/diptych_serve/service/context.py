"""`Serving`: what the routes of one service share, with `Writes`, the queue of populates, and `Readiness`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from diptych.errors import CollectionNotFound, DiptychError, PopulateError
from diptych.runtime.panics import as_error
from diptych_serve.service.access import Keys, Limits
from diptych_serve.service.admission import Refused
from diptych_serve.service.served import Batches, Metrics, Served

AGAIN = 5.0  # seconds until what could not answer is tried again
EVERY = 10.0  # seconds between checks of what is ready
STUCK = 20.0  # seconds after which a running check counts as failed
ANSWERS = 2.0  # seconds in which a store must answer whoever asks for readiness
LOG = logging.getLogger("diptych.service")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Serving:
    """Everything that a request may need."""

    served: Served
    keys: Keys
    limits: Limits
    metrics: Metrics
    batches: Batches
    readiness: Readiness
    writes: Writes | None = None  # None where nothing may be written
    started: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, request: Request) -> Serving:
        """The `Serving` of the application that received the request."""
        return cast(Serving, request.app.state.serving)


def json_of(value: object, status: int = 200) -> Response:
    """`value`, a model, a report or plain values, as JSON; numbers that are not finite are null."""
    return Response(to_json(value, inf_nan_mode="null"), status, media_type="application/json")


class Writes:
    """Runs populates one after another in a thread of their own, so that they take no threads from searches.

    Args:
        waiting: how many may wait.
    """

    def __init__(self, waiting: int = 16) -> None:
        self._pool, self._room = ThreadPoolExecutor(1, "diptych-write"), waiting + 1
        self._stopped = threading.Event()

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place in the queue for one write, from before its documents are received until it is done.

        Raises:
            Refused: too many wait already.
        """
        if not self._room:
            message = "too many writes are waiting\n  do: send more documents per request, and try again later"
            raise Refused(429, message, code="rate_limit_exceeded", headers={"Retry-After": "5"})
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`. The caller has a place from `room`.

        Raises:
            Refused: the service ends.
        """
        if self._stopped.is_set():
            raise _ending()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except PopulateError as error:
            if self._stopped.is_set():
                raise _ending() from error
            raise

    def until_stopped(self, rows: Iterable[T]) -> Iterator[T]:
        """The rows of a running write; once the service ends, PopulateError instead of the next row."""
        for row in rows:
            if self._stopped.is_set():
                raise PopulateError("the service ends", do="run it again: it continues from there")
            yield row

    def stop(self) -> None:
        """End the running write before its next document, and start no other; written documents stay."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _ending() -> Refused:
    return Refused(503, "the service ends\n  do: send the documents again: what is written is known", code="ending")


class Readiness:
    """Checks each served collection in a thread of its own, so that one that hangs does not hide others.

    Args:
        served: what is checked.
        may_be_empty: whether an empty collection counts as ready, because it waits for writes.
    """

    def __init__(self, served: Served, *, may_be_empty: bool = False) -> None:
        self._stopped, self._served = threading.Event(), served
        self._pending: asyncio.Future[bool] | None = None
        self._allowed: tuple[type[Exception], ...] = (CollectionNotFound,) if may_be_empty else ()
        self._checks = {name: _Check() for name in served.names}
        # No daemons: a daemon that loads a model while Python exits makes the process abort.
        self._threads = [
            threading.Thread(target=self._watch, args=own, name=f"diptych-ready-{own[0]}", daemon=False)
            for own in self._checks.items()
        ]

    @property
    def state(self) -> str:
        """`ready`; `starting` until everything was ready once; or `failing`."""
        if all(check.ready for check in self._checks.values()):
            return "ready"
        return "failing" if all(check.was_ready for check in self._checks.values()) else "starting"

    async def now(self) -> str:
        """The state, after asking the stores; `failing` if one does not answer within `ANSWERS`.

        However many callers wait for it, only one check of the stores runs at a time.
        """
        if self.state != "ready":
            return self.state
        if self._pending is None or self._pending.done():
            self._pending = asyncio.ensure_future(asyncio.to_thread(self._served.stores_answer, ANSWERS))
        try:
            stores_answer = await asyncio.wait_for(asyncio.shield(self._pending), ANSWERS)
        except TimeoutError:
            stores_answer = False
        if not stores_answer:
            self.suspect()
        return self.state if stores_answer else "failing"

    def start(self) -> None:
        """Warm everything, then check it repeatedly."""
        for thread in self._threads:
            thread.start()

    def suspect(self) -> None:
        """Check now, because a request failed, perhaps through a fault of the service."""
        for check in self._checks.values():
            check.due.set()

    def stop(self) -> None:
        """Stop checking; waits for running checks, even for a model that is loading."""
        self._stopped.set()
        self.suspect()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _watch(self, name: str, check: _Check) -> None:
        thorough, reasons = True, set[str]()
        while not self._stopped.is_set():
            check.began = time.monotonic()
            try:
                with suppress(*self._allowed):
                    self._served.check(name, thorough=thorough)
            except BaseException as error:  # whatever it is, the next check follows
                check.works = False
                known = as_error(error)
                reason = type(known).__name__
                if isinstance(known, DiptychError):
                    reason = f"{known.what} ({known.where})" if known.where else known.what
                if reason not in reasons:  # it may come every few seconds
                    LOG.warning("%s: not ready: %s", name or "--adapter", reason)
                reasons.add(reason)
            else:
                check.works = check.was_ready = True
                reasons.clear()
            check.began = 0.0
            thorough = check.due.wait(EVERY if check.works else AGAIN) or not check.works
            check.due.clear()


@dataclass(slots=True)
class _Check:
    """How the checks of one collection, or of the encoders of one config, went; `began` is 0 while none runs."""

    works: bool = False
    was_ready: bool = False
    began: float = 0.0
    due: threading.Event = field(default_factory=threading.Event)

    @property
    def ready(self) -> bool:
        """Whether the last check passed and no check has been running for too long."""
        began = self.began
        return self.works and not (began and time.monotonic() - began > STUCK)


def warm_in_background(served: Served) -> None:
    """Start loading all models in the background. A model that cannot be loaded fails the requests that need it."""

    def warm() -> None:
        for name in served.names:
            with suppress(Exception):
                served.check(name, thorough=True)

    threading.Thread(target=warm, name="diptych-warm", daemon=False).start()
