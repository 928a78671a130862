"""One request and its answer, with a limit on what is read and decompressed, and when it is worth repeating."""

from __future__ import annotations

import asyncio
import email.utils
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx
import tenacity

from diptych.errors import RemoteError
from diptych_adapters.remote.options import RemoteOptions

ERROR_BYTES = 65_536  # read of an error's body, which may be a web page or never end
_INFLATED = 262_144  # bytes that are unpacked at once
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_WORTH_RETRYING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_HOPELESS = "insufficient_quota"  # OpenAI also answers 429 when the account has no credit left


class AnswerTooLarge(Exception):
    """The answer is longer than the limit."""


class BrokenAnswer(Exception):
    """The answer is incomplete or cannot be unpacked."""


class Unanswered(Exception):
    """The connection ended before an answer began; `error` is httpx's."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer."""

    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def text(self) -> str:
        """The content as text, for errors."""
        return self.content.decode("utf-8", "replace")


async def exchange(
    client: httpx.AsyncClient, method: str, url: str, content: bytes | None, *, max_bytes: int
) -> Answer:
    """Send one request and return the answer. Reads no body of a redirect, and the first `ERROR_BYTES` of an error.

    Raises:
        AnswerTooLarge: a successful answer has more than `max_bytes` bytes, compressed or not.
        BrokenAnswer: a compressed body ends early, is damaged, or was not requested.
        Unanswered: the connection ended before the answer began.
        httpx.HTTPError: the request failed.
    """
    headers = {"content-type": "application/json"} if content is not None else {}
    request = client.build_request(method, url, content=content, headers=headers)
    try:
        response = await client.send(request, stream=True)
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
        raise Unanswered(error) from None
    async with aclosing(response):
        if response.is_redirect:
            return Answer(response.status_code, response.headers, b"")
        if response.is_success:
            body = await _read(response, max_bytes)
            if len(body) > max_bytes:
                raise AnswerTooLarge
            return Answer(response.status_code, response.headers, bytes(body))
        return Answer(response.status_code, response.headers, await _beginning(response))


async def _beginning(response: httpx.Response) -> bytes:
    """The beginning of an error's body; empty if it cannot be decompressed, since the status says enough."""
    try:
        return bytes((await _read(response, ERROR_BYTES))[:ERROR_BYTES])
    except BrokenAnswer:
        return b""


async def _read(response: httpx.Response, max_bytes: int) -> bytearray:
    """The decompressed body; of a longer one a little more than `max_bytes` bytes."""
    body, decoder = bytearray(), _decoder(response)
    async for chunk in response.aiter_raw():
        for part in decoder.unpacked(chunk):
            body += part
            if len(body) > max_bytes:
                return body
    decoder.finish()
    return body


class _Plain:
    def unpacked(self, chunk: bytes) -> Iterator[bytes]:
        """The chunk as it is."""
        yield chunk

    def finish(self) -> None:
        """Nothing is left over."""


class _Gzip(_Plain):
    """Unpacks gzip and deflate in steps, so that a small chunk cannot fill the memory."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._begun = False

    def unpacked(self, chunk: bytes) -> Iterator[bytes]:
        self._begun, pending = True, True
        while chunk or pending:
            if self._stream.eof:  # gzip allows several members, one after the other
                self._stream = zlib.decompressobj(_ZLIB_OR_GZIP)
            try:
                part = self._stream.decompress(chunk, _INFLATED)
            except zlib.error as error:
                raise BrokenAnswer(f"its compressed body is damaged: {error}") from None
            yield part
            chunk = self._stream.unconsumed_tail or self._stream.unused_data
            pending = len(part) == _INFLATED  # zlib may hold back output although it has read all of its input

    def finish(self) -> None:
        if self._begun and not self._stream.eof:
            raise BrokenAnswer("its compressed body ends early")


def _decoder(response: httpx.Response) -> _Plain:
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return _Plain()
    if coding in ("gzip", "x-gzip", "deflate"):
        return _Gzip()
    raise BrokenAnswer(f"its body is compressed as {coding[:40]!r}, which was not asked for")


class Clients:
    """At most `limit` clients of one event loop, made when they are needed and kept with their connections.

    A client whose request failed or was cancelled is closed: its connection may be in any state.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], *, limit: int) -> None:
        self._make, self._idle, self._free = make, list[httpx.AsyncClient](), asyncio.Semaphore(limit)

    @asynccontextmanager
    async def borrow(self, *, new: bool = False) -> AsyncIterator[tuple[httpx.AsyncClient, bool]]:
        """A client for exclusive use, and whether it has served before; waits while all are in use.

        Args:
            new: make a client, whose connection the server cannot have closed yet.
        """
        async with self._free:
            reused = bool(self._idle) and not new
            client = self._idle.pop() if reused else self._make()
            try:
                yield client, reused
            except BaseException:
                await client.aclose()
                raise
            self._idle.append(client)

    async def close(self) -> None:
        """Close the clients that are not in use."""
        idle, self._idle = self._idle, []
        for client in idle:
            await client.aclose()


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
