"""`Clients`: HTTP clients of which each serves one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx


class Clients:
    """At most `most` clients, made when they are needed and kept with their connections.

    One client shared by threads is not safe with httpcore 1.0: while a thread waits for its answer, another one can
    take the readable socket for one that the server has closed, and close it, so that the first waits for nothing until
    its timeout.
    """

    def __init__(self, make: Callable[[], httpx.Client], *, most: int) -> None:
        self._make, self._idle = make, list[httpx.Client]()
        self._room, self._lock = threading.Semaphore(most), threading.Lock()

    @contextmanager
    def one(self) -> Iterator[httpx.Client]:
        """A client that nobody else uses meanwhile; waits while all are in use."""
        with self._room:
            with self._lock:
                client = self._idle.pop() if self._idle else None
            client = client or self._make()
            try:
                yield client
            finally:
                with self._lock:
                    self._idle.append(client)

    def close(self) -> None:
        """Close the clients that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
