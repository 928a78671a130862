"""Many readers or one exchange."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local

_here = local()  # how many gates this thread is inside of


class Gate:
    """Lets readers through together; `alone()` waits for them and keeps new ones out, briefly.

    A thread that reads already, here or at another gate, may enter while somebody waits to be alone: it would keep
    that somebody waiting for ever otherwise.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._readers = 0
        self._wanted = self._taken = False

    def enter(self) -> None:
        """Count in as a reader."""
        depth = getattr(_here, "depth", 0)
        with self._changed:
            while self._taken or (self._wanted and not depth):
                self._changed.wait()
            self._readers += 1
        _here.depth = depth + 1

    def leave(self) -> None:
        """Count out."""
        _here.depth -= 1
        with self._changed:
            self._readers -= 1
            if self._wanted and not self._readers:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else inside."""
        with self._changed:
            while self._wanted:
                self._changed.wait()
            self._wanted = True
            while self._readers:
                self._changed.wait()
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._wanted = self._taken = False
                self._changed.notify_all()
