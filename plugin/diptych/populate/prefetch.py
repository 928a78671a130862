"""`read_ahead`: the source is read here while a thread works on what was read, with a bounded queue between the two."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Abandoned(Exception):
    """Told to the thread that works, when the source broke off or the run was given up."""


def read_ahead(
    source: Iterable[T], work: Callable[[Iterator[T]], None], *, room: int, stopped: threading.Event
) -> None:
    """Have `work` go through the source in a thread of its own; returns when it has returned.

    The source is read in the caller's thread: a cursor of SQLite, for one, serves no other, and Ctrl-C comes here.

    Args:
        source: what is read.
        work: is given an iterator of it, which raises Abandoned when the source fails.
        room: how many may be read and not yet asked for.
        stopped: set when the source fails, so that whoever waits on its way stops waiting.

    Raises:
        BaseException: what the source or `work` raised.
    """
    reading = _Reading(work, room)
    try:
        for entry in source:
            if not reading.put(entry):
                break
        reading.end(abandoned=False)
    except BaseException:
        stopped.set()
        reading.end(abandoned=True)
        raise
    if reading.failure is not None:
        raise reading.failure


class _Reading(Generic[T]):
    """The queue, and the thread at its other end."""

    def __init__(self, work: Callable[[Iterator[T]], None], room: int) -> None:
        self._work, self._ended, self._abandoned = work, False, False
        self._room = threading.Semaphore(room)
        self._read: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="look up", daemon=True)
        self._thread.start()

    def put(self, entry: T) -> bool:
        """Hand it over, once there is room; whether there is still somebody who wants it."""
        self._room.acquire()
        if self._ended:
            return False
        self._read.put((entry,))
        return True

    def end(self, *, abandoned: bool) -> None:
        """No more comes; wait for the thread."""
        self._abandoned = abandoned
        self._read.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._entries())
        except Abandoned:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self._ended = True
            self._room.release()

    def _entries(self) -> Iterator[T]:
        while (found := self._read.get()) is not None:
            if self._abandoned:
                break
            self._room.release()
            yield found[0]
        if self._abandoned:
            raise Abandoned
