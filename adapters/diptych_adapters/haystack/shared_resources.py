"""Resources that are opened once in a process, however many components name them.

The components of a pipeline that comes from YAML each have a document store of their own that says the same. An
embedded store has one owner, and a store in memory is another at each opening: so they share one.
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
        close: what is done with a value that nobody uses any more.
    """

    def __init__(self, close: Callable[[T], None] = lambda value: None) -> None:
        self._close, self._lock = close, threading.RLock()
        self._held: dict[Hashable, tuple[T, weakref.WeakSet[object]]] = {}

    def take(self, key: Hashable, user: object, make: Callable[[], T]) -> T:
        """The value for this key, created if there is none."""
        with self._lock:
            if key not in self._held:
                self._held[key] = make(), weakref.WeakSet()
            value, users = self._held[key]
            if user not in users:
                users.add(user)
                weakref.finalize(user, self._swept, key).atexit = False
            return value

    def let_go(self, key: Hashable, user: object) -> None:
        """Release the value for `user`."""
        with self._lock:
            if key in self._held:
                self._held[key][1].discard(user)
                self._swept(key)

    def _swept(self, key: Hashable) -> None:
        with self._lock:
            if key in self._held and not any(True for _ in self._held[key][1]):
                self._close(self._held.pop(key)[0])
