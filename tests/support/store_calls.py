"""Counts the calls of a store client, and lets one of them fail or be the last of its process."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

from qdrant_client.client_base import QdrantBase

Breaks = Literal["before", "after"]  # whether the store performs the call


class Crash(BaseException):
    """The process ends here: no handler of failures may catch it."""


class StoreCalls:
    """Watches the methods of one client that are called from outside.

    `counts` has them by name, `broken` is the name of the one that `break_at` let fail.
    """

    def __init__(self, client: QdrantBase) -> None:
        self.counts, self._thread = Counter[str](), threading.local()
        self.break_at(0)
        for name, _ in inspect.getmembers(type(client), inspect.isfunction):
            if not name.startswith("_") and name not in ("close", "require_room"):  # which ask no store
                setattr(client, name, self._watched(name, getattr(client, name)))

    def break_at(self, call: int, breaks: Breaks = "before", error: type[BaseException] = Crash) -> None:
        """Let the call of this number from now on fail, 0 for none; after a crash all later calls fail, too."""
        self._left, self._breaks, self._error, self.broken = call, breaks, error, ""

    @property
    def armed(self) -> bool:
        """Whether a call is still to fail."""
        return self._left != 0

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            if getattr(self._thread, "inside", False):  # another method of the client calls it
                return method(*args, **options)
            self.counts[name], self._thread.inside = self.counts[name] + 1, True
            try:
                if self._left < 0:
                    raise Crash(name)
                if self._left != 1:
                    self._left -= self._left > 0
                    return method(*args, **options)
                self._left, self.broken = (-1 if self._error is Crash else 0), name
                if self._breaks == "after":
                    method(*args, **options)
                raise self._error(name)
            finally:
                self._thread.inside = False

        return call
