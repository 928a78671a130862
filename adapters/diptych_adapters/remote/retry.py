"""Decides when a request is repeated, and after how long."""

from __future__ import annotations

import asyncio
import email.utils
import time

import tenacity

from diptych.errors import RemoteError
from diptych_adapters.remote.options import RemoteOptions

_WORTH_RETRYING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_HOPELESS = "insufficient_quota"  # OpenAI also answers 429 when the account has no credit left


class Retryable(Exception):
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
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0
    return max(0.0, moment - (time.time() if now is None else now))


def retry_policy(options: RemoteOptions, deadline: float) -> tenacity.AsyncRetrying:
    """Retries `Retryable` with exponential, jittered waits, at least as long as the server requests.

    Ends after `retries` further attempts, or when the server requests a longer wait than `max_retry_wait` or the time
    left until the `deadline`.
    """
    jittered = tenacity.wait_random_exponential(multiplier=options.backoff, max=options.max_retry_wait)

    def requested_wait(state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return failure.retry_after if isinstance(failure, Retryable) else 0.0

    def is_over(state: tenacity.RetryCallState) -> bool:
        remaining = deadline - (state.seconds_since_start or 0.0)
        return state.attempt_number > options.retries or requested_wait(state) > min(options.max_retry_wait, remaining)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Retryable),
        stop=is_over,
        wait=lambda state: max(requested_wait(state), jittered(state)),
        sleep=asyncio.sleep,
        reraise=True,
    )
