"""Tracks the phase that a command is in, and how long each phase took.

For the log (`diptych --verbose`, or the logger `diptych.phases`), and for a terminal that shows the current phase.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger("diptych.phases")
_running: list[str] = []
_watchers: list[Callable[[str], None]] = []


@contextmanager
def phase(what: str) -> Iterator[None]:
    """Mark the block as a phase that may take a while.

    Args:
        what: names slots and adapters, never options or URLs, which may hold secrets.
    """
    begin = time.perf_counter()
    LOG.debug("%s ...", what)
    _running.append(what)
    _tell()
    try:
        yield
    finally:
        LOG.info("%s: %.2f s", what, time.perf_counter() - begin)
        _running.remove(what)
        _tell()


def detail(what: str) -> None:
    """Add a detail to the running phase, such as its speed, for whoever watches; the next phase replaces it."""
    now = f"{_running[-1]}: {what}" if _running else ""
    for watcher in [*_watchers]:
        watcher(now)


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `watcher` with the name of the running phase, "" for none."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def _tell() -> None:
    now = _running[-1] if _running else ""
    for watcher in [*_watchers]:
        watcher(now)
