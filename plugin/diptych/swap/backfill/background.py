"""`in_background`: runs work at a low priority, so that searches of the same process come first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

NICENESS = 10  # of 19: a busy machine leaves it about a tenth of a core, so it never stands still with a lock in hand

Result = TypeVar("Result")


def in_background(work: Callable[[], Result], stopped: threading.Event) -> Result:
    """Return or raise what `work` does. It runs in a thread of low priority, as do the threads that it starts.

    Ctrl-C sets `stopped`, and is raised once the work has ended.
    """
    future: Future[Result] = Future()
    try:
        threading.Thread(target=_run, args=(work, future), name="apply").start()
        return future.result()
    except KeyboardInterrupt:
        stopped.set()
        if not future.cancel():  # it has begun
            wait([future])
        raise


def _run(work: Callable[[], Result], future: Future[Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    stand_back()
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def stand_back() -> None:
    """Give the calling thread a low priority for good, so that queries which are encoded beside it come first.

    Threads that it starts inherit that. So nothing that outlives the work may be made in it: a model that brings
    threads of its own is loaded elsewhere. Priorities of single threads are Linux's; elsewhere nothing changes.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it; then the work keeps the normal priority
            current = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(current, NICENESS))
