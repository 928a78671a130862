"""`Readiness`: whether all that is served can answer now; looked at again and again as long as the service runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from diptych.errors import CollectionNotFound, DiptychError
from diptych.panics import as_error
from diptych.service.served import Served

AGAIN = 5.0  # seconds until what could not answer is tried again
EVERY = 10.0  # seconds between two looks at what answers
STUCK = 20.0  # seconds after which a look that does not end counts as failed
LOG = logging.getLogger("diptych.service")


class Readiness:
    """Looks after everything that is served, each by a thread of its own, so that one that hangs hides no other.

    Args:
        served: what is looked after.
        tell: is told after each look whether all is ready.
        may_be_empty: whether a collection that nobody has filled yet is ready: it waits for writes.
    """

    def __init__(
        self, served: Served, tell: Callable[[bool], None] = lambda ready: None, *, may_be_empty: bool = False
    ) -> None:
        self._stopped, self._tell = threading.Event(), tell
        fine: tuple[type[Exception], ...] = (CollectionNotFound,) if may_be_empty else ()
        self._looks = [_Look(served, name, self._stopped, self._told, fine) for name in served.names]

    @property
    def state(self) -> str:
        """`ready`; `starting` before everything was once; or `failing`."""
        if all(look.ready for look in self._looks):
            return "ready"
        return "failing" if all(look.was_ready for look in self._looks) else "starting"

    def start(self) -> None:
        """Warm everything, and look after it from then on."""
        self._told()
        for look in self._looks:
            look.thread.start()

    def suspect(self) -> None:
        """Look now: a request failed, and perhaps not by its own fault."""
        for look in self._looks:
            look.due.set()

    def stop(self) -> None:
        """Stop looking; waits for looks under way, be it a model that loads."""
        self._stopped.set()
        self.suspect()
        for look in self._looks:
            if look.thread.ident is not None:
                look.thread.join()

    def _told(self) -> None:
        self._tell(self.state == "ready")


class _Look:
    """Looks after one collection, or the encoders of one config."""

    def __init__(
        self,
        served: Served,
        name: str,
        stopped: threading.Event,
        told: Callable[[], None],
        fine: tuple[type[Exception], ...],
    ) -> None:
        self._served, self._name, self._stopped, self._told, self._fine = served, name, stopped, told, fine
        self._works, self._began, self._reasons = False, 0.0, set[str]()
        self.was_ready = False
        self.due = threading.Event()
        # No daemon: one that loads a model while Python ends makes the process abort.
        self.thread = threading.Thread(target=self._run, name=f"diptych-ready-{name}", daemon=False)

    @property
    def ready(self) -> bool:
        """Whether the last look went well and none has been under way for too long."""
        began = self._began
        return self._works and not (began and time.monotonic() - began > STUCK)

    def _run(self) -> None:
        thorough = True
        while not self._stopped.is_set():
            self._look(self._served.warm if thorough else self._served.check)
            self._told()
            thorough = self.due.wait(EVERY if self._works else AGAIN) or not self._works
            self.due.clear()

    def _look(self, ask: Callable[[str], None]) -> None:
        self._began = time.monotonic()
        try:
            with suppress(*self._fine):
                ask(self._name)
        except BaseException as error:  # whatever it is, the next look comes
            self._works = False
            self._log(as_error(error))
        else:
            self._works = self.was_ready = True
            self._reasons.clear()
        finally:
            self._began = 0.0

    def _log(self, error: Exception) -> None:
        """Log each reason once; it may come every few seconds."""
        text = f"{error.what} ({error.where})" if isinstance(error, DiptychError) else f"{type(error).__name__}"
        if text not in self._reasons:
            LOG.warning("%s: not ready: %s", self._name or "--adapter", text)
        self._reasons.add(text)


def warm_in_background(served: Served) -> None:
    """Begin to load what everything needs. What cannot be loaded is told to whoever asks for it."""

    def warm() -> None:
        for name in served.names:
            with suppress(Exception):
                served.warm(name)

    threading.Thread(target=warm, name="diptych-warm", daemon=False).start()
