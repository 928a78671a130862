"""Keeps conflicting runs of populate apart, and creates the collection once.

`populate_lock` serialises runs of one process. `create_once` uses the collection of another process if that was faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from diptych.handle.collection_handle import CollectionHandle
from diptych.stores.server_errors import is_conflict

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.protocols import Statistics

_LOCKS: WeakKeyDictionary[QdrantBase, threading.RLock] = WeakKeyDictionary()
_MAKING = threading.Lock()
PATIENCE, PAUSE = 30.0, 0.1  # seconds to wait for a collection that another process is creating, and between checks


@contextmanager
def populate_lock(handle: CollectionHandle) -> Iterator[None]:
    """Wait for other populates through the same client that would conflict, and make later ones wait.

    While the collection does not exist, both would create it; and local mode cannot take two writes at once.
    """
    with _lock_of(handle.client):
        if not handle.exists and handle.client.collection_exists(handle.name):
            handle.require()  # the run before created it
        yield


def create_once(handle: CollectionHandle, statistics: Mapping[str, Statistics]) -> bool:
    """Create the collection; False if another process was faster, whose collection is then used."""
    try:
        handle.create(statistics)
    except Exception as error:
        if not _appears(handle, PATIENCE if is_conflict(error) else 0.0):
            raise
        handle.require()
        return False
    return True


def _appears(handle: CollectionHandle, patience: float) -> bool:
    """Whether the collection exists. A server refuses a second creator before the new collection is visible."""
    due = time.monotonic() + patience
    while not handle.client.collection_exists(handle.name):
        if time.monotonic() >= due:
            return False
        time.sleep(PAUSE)
    return True


def _lock_of(client: QdrantBase) -> threading.RLock:
    with _MAKING:
        return _LOCKS.setdefault(client, threading.RLock())
