"""`EventLoop`: runs all remote requests of a process, so that each can be cancelled at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")


class EventLoop:
    """An asyncio event loop in a daemon thread, for callers that wait in threads of their own.

    A thread that is blocked in a socket cannot be stopped. A coroutine can: a deadline ends it, and so does a caller
    who no longer waits. The thread is a daemon, so a server that never answers does not keep the process from ending.
    """

    _of_process: ClassVar[EventLoop | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="diptych-remote", daemon=True).start()

    @classmethod
    def of_process(cls) -> EventLoop:
        """This process's event loop; a forked child gets one of its own."""
        with cls._lock:
            if cls._of_process is None:
                cls._of_process = cls()
            return cls._of_process

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled when the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` without waiting for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    @classmethod
    def forget(cls) -> None:
        """Drop the parent's event loop in a forked child, where its thread does not run."""
        cls._of_process, cls._lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=EventLoop.forget)
