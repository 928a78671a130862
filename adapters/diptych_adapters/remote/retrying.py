"""When a request is tried again, and after how long."""

from __future__ import annotations

import email.utils
import threading
import time
from concurrent.futures import CancelledError

import tenacity

from diptych.errors import RemoteError

_WORTH_RETRYING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_HOPELESS = "insufficient_quota"  # OpenAI says 429 also when the account has no money left


class Again(Exception):
    """An attempt failed and another may succeed: `error` is what to raise if none does."""

    def __init__(self, error: RemoteError, *, retry_after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


def is_worth_retrying(status: int, body: str) -> bool:
    """Whether the same request may succeed later."""
    return status in _WORTH_RETRYING and _HOPELESS not in body


def retry_after(value: str | None, *, now: float | None = None) -> float:
    """Seconds to wait by a Retry-After header, given in seconds or as a date; 0 when absent or unreadable."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp() - (time.time() if now is None else now))


def retrying(*, retries: int, backoff: float, longest: float, cancelled: threading.Event) -> tenacity.Retrying:
    """Retries `Again` with exponential, jittered waits, no shorter than the server asked for.

    Ends after `retries` further attempts, or when the server asks for more patience than `longest` seconds.

    Raises:
        CancelledError: `cancelled` was set while it waited.
    """
    jittered = tenacity.wait_random_exponential(multiplier=backoff, max=longest)

    def asked(state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return failure.retry_after if isinstance(failure, Again) else 0.0

    def sleep(seconds: float) -> None:
        if cancelled.wait(seconds):
            raise CancelledError

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Again),
        stop=lambda state: state.attempt_number > retries or asked(state) > longest,
        wait=lambda state: max(asked(state), jittered(state)),
        sleep=sleep,
        reraise=True,
    )
