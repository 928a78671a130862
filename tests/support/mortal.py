"""A store in memory that handles share as processes share a server, and clients that die after their n-th write."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from qdrant_client import QdrantClient

WRITES = {
    "batch_update_points", "create_collection", "create_payload_index", "create_vector_name", "delete",
    "delete_payload", "delete_payload_index", "delete_vector_name", "delete_vectors", "overwrite_payload",
    "set_payload", "update_collection", "update_vectors", "upsert",
}  # fmt: skip


class Killed(BaseException):
    """Ends work as a kill does: nothing handles it."""


class Process:
    """What one process may still ask of the store: nothing, once it has died, as a dead process cleans up nothing.

    Local mode knows no threads, so that its calls come one after another.
    """

    def __init__(self, store: SharedStore, last: int | None) -> None:
        self._store, self._last = store, last
        self.writes, self.dead = 0, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store.local, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            with self._store.lock:
                if self.dead:
                    raise ConnectionError("this process is dead")
                answer = found(*args, **options)
                self.writes += name in WRITES
                self.dead = name in WRITES and self.writes == self._last
            if self.dead:
                raise Killed
            return answer

        return call

    def close(self, **_: Any) -> None:
        """The store goes on."""


class SharedStore:
    """One store in memory."""

    def __init__(self) -> None:
        self._first, self.lock = QdrantClient(":memory:"), threading.RLock()
        self.local: Any = self._first._client

    def client(self, last: int | None = None) -> QdrantClient:
        """A client of it, which dies after its write number `last`."""
        client = copy.copy(self._first)  # to make one takes a tenth of a second
        client._client = Process(self, last)  # type: ignore[assignment]
        return client


def outlived(client: QdrantClient, work: Callable[[], object]) -> bool:
    """Whether the client did the work without dying; what goes wrong in a dead process does not matter."""
    process: Any = client._client
    try:
        work()
    except BaseException:
        if not process.dead:
            raise
    return not process.dead
