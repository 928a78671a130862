"""A thread that asks while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from qdrant_client import models

from diptych import Collection
from diptych.types import Hit

PAUSE = 0.001  # between two queries: none would keep Python's lock from the others most of the time


class Load:
    """Asks one query after another in a thread of its own, and keeps the answers and what went wrong."""

    def __init__(
        self,
        collection: Collection,
        queries: Sequence[str],
        *,
        limit: int | None = None,
        params: models.SearchParams | None = None,
    ) -> None:
        self._collection, self._queries, self._limit, self._params = collection, queries, limit, params
        self._over = threading.Event()
        self.answers: list[tuple[int, list[Hit]]] = []  # the number of the query, and its hits
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run, name="load")

    def _run(self) -> None:
        while not self._over.wait(PAUSE):
            number = (len(self.answers) + len(self.errors)) % len(self._queries)
            try:
                hits = self._collection.search(self._queries[number], limit=self._limit, params=self._params)
                self.answers.append((number, hits))
            except Exception as error:
                self.errors.append(error)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, more: int, seconds: float = 120) -> None:
        """Until so many more answers came, or one failed."""
        wanted = len(self.answers) + more
        self.until(lambda: len(self.answers) >= wanted, seconds)

    def until(self, reached: Callable[[], bool], seconds: float = 120) -> None:
        """Until this is so, or an answer failed."""
        end = time.monotonic() + seconds
        while not reached() and not self.errors:
            assert time.monotonic() < end
            time.sleep(0.005)
