"""Tracks the phase that a command is in and how long each phase took; `Progress` says how far its stages are.

For the log (`diptych --verbose`, or the logger `diptych.phases`), and for a terminal that shows the current phase.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

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


class Progress(Protocol):
    """Receives the progress of the stages: "measure" (for encoders with corpus statistics), "read", then "index".

    "index" ends below its total when documents are repeated or rejected. Calls come from more than one thread.
    """

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts; `total` documents are expected, None if unknown."""
        ...

    def advance(self, stage: str, n: int) -> None:
        """`n` more documents have passed the stage."""
        ...


class Unwatched:
    """A progress that is ignored."""

    def begin(self, stage: str, total: int | None) -> None:
        """Does nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Does nothing."""
