"""`Pace`: limits the number of points per second."""

from __future__ import annotations

import time
from collections.abc import Callable

from diptych.errors import CopyError


class Pace:
    """Delays its caller to keep a rate.

    Args:
        rate: points a second; None lets everything pass.
        clock, sleep: where time comes from.

    Raises:
        CopyError: a rate that is not positive.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate is not None and rate <= 0:
            raise CopyError("a rate must be positive", got=rate, expected="points a second, or none for no limit")
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._free = clock()

    def wait(self, points: int) -> None:
        """Return when so many more points may pass. Lost time is not made up for by a burst."""
        if self._rate is None:
            return
        now = self._clock()
        self._free = max(self._free, now) + points / self._rate
        self._sleep(max(0.0, self._free - now))
