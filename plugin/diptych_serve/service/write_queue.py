"""`Writes`: runs the populates of a service one after another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from diptych.errors import PopulateError
from diptych_serve.service.error_answers import Refused

T = TypeVar("T")


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
