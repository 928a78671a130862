"""Resources that are opened once in a process and shared by all components that name them.

The components of a pipeline from YAML each have a document store of their own with the same settings. An embedded
store has one owner, and each opening of an in-memory store is another store, so they share one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Values by key, each created for its first user and closed after its last.

    Args:
        close: called with a value that has no users left.
    """

    def __init__(self, close: Callable[[T], None] = lambda value: None) -> None:
        self._close, self._lock = close, threading.RLock()
        self._values: dict[Hashable, tuple[T, weakref.WeakSet[object]]] = {}

    def acquire(self, key: Hashable, user: object, make: Callable[[], T]) -> T:
        """The value for this key, created if there is none."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make(), weakref.WeakSet()
            value, users = self._values[key]
            if user not in users:
                users.add(user)
                weakref.finalize(user, self._close_if_unused, key).atexit = False
            return value

    def release(self, key: Hashable, user: object) -> None:
        """Release the value for `user`."""
        with self._lock:
            if key in self._values:
                self._values[key][1].discard(user)
                self._close_if_unused(key)

    def _close_if_unused(self, key: Hashable) -> None:
        with self._lock:
            if key in self._values and not any(True for _ in self._values[key][1]):
                self._close(self._values.pop(key)[0])
