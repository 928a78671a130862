"""`Pace` and `in_background`: how fast points are written, and how a back-fill gives way to searches of its process.

A server answers searches more slowly while it takes vectors: a write locks a segment and uses processor time. So the
gentle pace writes few points at once and repeats a probe query whose time without writes it knows. If probes take too
long it writes fewer points per second, else more.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from diptych.display import duration
from diptych.runtime.phases import detail
from diptych.stores.versions import is_server_client

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.metadata.models import State

QUIET, EVERY = 40, 0.02  # probes before the first write, and seconds between two of them afterwards
WINDOW, DECIDE = 40, 10  # number of recent probes considered; a decision after every 10
SHARE = 90  # the percentile of the probes' times that is used
SLOWER = 2.0  # limit of that percentile, as a multiple of the quiet value; above it, less is written
LEAST_RATE, MOST_RATE = 100.0, 20_000.0  # points a second
FIRST_RATE = 1_000.0
UP, DOWN = 1.15, 0.6  # what a decision multiplies the rate by
FAILED = 60.0  # time assumed for an unanswered probe, in seconds
AT_ONCE = 32  # points of a request
IN_FLIGHT, PART = 3, 256  # at full pace: requests under way to a server at a time, and points in each
NEIGHBOURS = 10
T = TypeVar("T")
NICENESS = 10  # not the lowest, 19: a busy machine leaves about a tenth of a core, so no thread stalls holding a lock

Result = TypeVar("Result")


class Pace:
    """The full pace: to a server several requests at a time, to other stores everything at once.

    `begin` is called first in each thread of the back-fill. It keeps the normal priority at a server, where the full
    pace is for collections that nobody searches yet. `in_flight` requests, of at most `most` points, may be under way.

    Args:
        server: whether the store is a server.
        rate: points a second, at most; None for no limit.
        stopped: when set, all waits end.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        *,
        server: bool = False,
        rate: float | None = None,
        stopped: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.in_flight = IN_FLIGHT if server else 1
        self.most = PART if server else None
        self.begin: Callable[[], None] = (lambda: None) if server else stand_back
        self.rate, self._stopped, self._clock = rate, stopped or threading.Event(), clock
        self._free = clock()

    def wait(self, points: int) -> bool:
        """Return when so many more points may pass, and whether they had to wait. Lost time is not made up for."""
        if not self.rate:
            return False
        now, due = self._clock(), self._free
        self._stopped.wait(max(0.0, due - now))
        self._free = max(due, now) + points / self.rate
        return due > now

    def parts(self, points: Sequence[T]) -> Iterator[Sequence[T]]:
        """The points in parts, one for each request, each yielded when it may be written."""
        size = self.most or max(1, len(points))
        for start in range(0, len(points), size):
            yield points[start : start + size]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the pace within the block."""
        detail("full pace")
        yield


class Gentle(Pace):
    """Few points at once, at a rate that follows the time of a probe query.

    Args:
        probe: runs the query and returns its seconds.
        stopped, clock: see `Pace`.
    """

    rate: float

    def __init__(
        self, probe: Callable[[], float], stopped: threading.Event, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(rate=FIRST_RATE, stopped=stopped, clock=clock)
        self._probe, self.quiet, self.most = probe, 0.0, AT_ONCE
        self._newest: deque[float] = deque(maxlen=WINDOW)
        self._probed, self._held_back = 0, False

    def parts(self, points: Sequence[T]) -> Iterator[Sequence[T]]:
        """As many points as fit in a request, when the rate allows; lost time is not made up for."""
        for part in super().parts(points):
            self._held_back |= self.wait(len(part))
            yield part

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Measure the probe without writes, then keep probing within the block."""
        self.measure_quiet([self._probe_once() for _ in range(QUIET) if not self._stopped.is_set()])
        over = threading.Event()

        def watch() -> None:
            while not over.wait(EVERY):
                self.note(self._probe_once())

        watching = threading.Thread(target=watch, name="probe", daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def measure_quiet(self, quiet: Sequence[float]) -> None:
        """Measure the probe while nothing is written."""
        known = [seconds for seconds in quiet if seconds < FAILED]
        self.quiet = float(np.percentile(known, SHARE)) if known else 0.0
        self._tell(self.quiet)

    def note(self, seconds: float) -> None:
        """Record the time of a probe, and adjust the rate when a decision is due."""
        self._newest.append(seconds)
        self._probed += 1
        if self._probed % DECIDE:
            return
        slow = float(np.percentile(self._newest, SHARE))
        if slow > SLOWER * self.quiet:
            self.rate = max(LEAST_RATE, self.rate * DOWN)
            self._newest.clear()  # they were made at the earlier rate
        elif self._held_back:  # else something else limits the writes, and a higher rate would take long to come down
            self.rate, self._held_back = min(MOST_RATE, self.rate * UP), False
        self._tell(slow)

    def _tell(self, slow: float) -> None:
        now, usual = f"{1e3 * slow:.1f} ms", f"{1e3 * self.quiet:.1f} ms"
        detail(f"gentle pace, {self.rate:,.0f} documents/s; a probe query takes {now}, usually {usual}")

    def _probe_once(self) -> float:
        try:
            return self._probe()
        except Exception:  # if the store fails, the work raises it; a probe that fails counts as a slow one
            return FAILED


def pace_of(chosen: str | None, client: QdrantBase, name: str, live: State, stopped: threading.Event) -> Pace:
    """The configured pace, `gentle` or `full`; None means gentle on a server, where others search, and else full."""
    if chosen is None:
        chosen = "gentle" if is_server_client(client) else "full"
    probe = _probe(client, name, live) if chosen == "gentle" else None
    return Pace(server=is_server_client(client)) if probe is None else Gentle(probe, stopped)


def pace_warnings(chosen: str | None, client: QdrantBase, documents: int) -> list[str]:
    """A sentence for a plan, where writes to a server are slowed down because no pace was chosen.

    Only where so many documents may take more than a minute.
    """
    seconds = documents / LEAST_RATE
    if chosen is not None or not is_server_client(client) or seconds <= 60:
        return []
    most, pace = duration(seconds), "writes to a server are slowed down (gentle pace) so that searches stay fast"
    return [f"{pace}: {documents:,} documents may take up to {most}; where nobody searches: diptych apply --pace full"]


def _probe(client: QdrantBase, name: str, live: State) -> Callable[[], float] | None:
    """A query like those of searches: for neighbours of existing points in a live vector. None without any."""
    vector = next((generation.vector for generation in live.slots.values() if generation.kind != "text_index"), None)
    records, _ = client.scroll(name, limit=WINDOW, with_payload=False) if vector is not None else ([], None)
    if not records:
        return None
    points = cycle([record.id for record in records])
    server_seconds: Any = getattr(client, "search_seconds", None)

    def ask() -> float:
        if server_seconds is not None:
            return float(server_seconds(name, next(points), vector, NEIGHBOURS))
        begin = time.perf_counter()
        client.query_points(name, next(points), using=vector, limit=NEIGHBOURS, with_payload=False)
        return time.perf_counter() - begin

    return ask


def in_background(work: Callable[[], Result], stopped: threading.Event) -> Result:
    """Return or raise what `work` does. It runs in a thread of low priority, as do the threads that it starts.

    Ctrl-C sets `stopped`, and is raised once the work has ended.
    """
    future: Future[Result] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        stand_back()
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=run, name="apply").start()
        return future.result()
    except KeyboardInterrupt:
        stopped.set()
        if not future.cancel():  # it has begun
            wait([future])
        raise


def stand_back() -> None:
    """Give the calling thread a low priority for good, so that queries which are encoded beside it come first.

    Threads that it starts inherit that. So nothing that outlives the work may be made in it: a model that brings
    threads of its own is loaded elsewhere. Priorities of single threads are Linux's; elsewhere nothing changes.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it; then the work keeps the normal priority
            current = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(current, NICENESS))
