"""Many readers or one exchange."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Gate:
    """Lets readers through together; `alone()` waits for them and keeps new ones out, briefly."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._readers = 0
        self._closed = False

    def enter(self) -> None:
        """Count in as a reader."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._readers += 1

    def leave(self) -> None:
        """Count out."""
        with self._changed:
            self._readers -= 1
            if not self._readers:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else inside."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            while self._readers:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
