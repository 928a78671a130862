"""`Ending`: makes sure that a server stops in time, even if an encoder hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

CLOSING = 1.0  # seconds for closing stores after the grace of requests, or after a second signal
INTERRUPTED = 130  # exit code after Ctrl-C
LOG = logging.getLogger("diptych.service")


class Ending:
    """Ends the process within a time limit after the first signal, and within a second after the next one.

    It also ends within a second once no request is under way, so that a model that is being loaded is not waited for.

    What was acknowledged is in the store's write-ahead log, so a forced exit loses nothing.

    Args:
        grace: seconds for running requests to finish.
        orderly: called in a thread of its own after the first signal; the process ends when it has returned.
    """

    def __init__(self, grace: float, *, orderly: Callable[[], None] | None = None) -> None:
        self._grace, self._orderly, self._begun, self._code = grace, orderly, False, 0

    def begin(self, number: int) -> None:
        """Start to end after a signal. Called by its handler, in the main thread."""
        self._code = INTERRUPTED if number == signal.SIGINT else 0
        if self._orderly is not None and not self._begun:
            threading.Thread(target=_run, args=(self._orderly, self._code), name="diptych-end", daemon=True).start()
        self.bound()

    def requests_are_done(self) -> None:
        """After a signal, cut off in a second what is not closed. Called in the main thread."""
        if self._begun:
            self._leave_in(CLOSING)  # not by the kernel: Python may take longer to end on a busy machine

    def bound(self) -> None:
        """Arm the time limit. Called in the main thread."""
        seconds = CLOSING if self._begun else self._grace + CLOSING
        self._begun = True
        self._leave_in(seconds)
        # Have the kernel end the process: no Python thread runs while native code holds the GIL.
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds + CLOSING)

    def _leave_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, leave, (self._code, "what was still under way is cut off"))
        timer.daemon = True
        timer.start()


def leave(code: int, reason: str = "") -> None:
    """End the process now, without waiting for any thread."""
    if reason:
        LOG.warning("the end: %s", reason)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(work: Callable[[], None], code: int) -> None:
    try:
        work()
    finally:
        leave(code)
