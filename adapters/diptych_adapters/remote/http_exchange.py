"""One request and its answer, with a limit on what is read, and when it is worth repeating."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
import tenacity

from diptych.errors import ConfigError, RemoteError
from diptych_adapters.remote.options import RemoteOptions

_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_REDACTED = 8  # first characters of a key, which are hidden wherever they occur
HIDDEN = "***"
_HEADER_TEXT = re.compile(r"[!-~]+")

ERROR_BYTES = 65_536  # read of an error's body, which may be a web page or never end
_WORTH_RETRYING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_HOPELESS = "insufficient_quota"  # OpenAI also answers 429 when the account has no credit left


class AnswerTooLarge(Exception):
    """The answer is longer than the limit."""


class BrokenAnswer(Exception):
    """The answer is in a form that was not asked for."""


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
        AnswerTooLarge: a successful answer has more than `max_bytes` bytes.
        BrokenAnswer: its body is compressed.
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
        if not response.is_success:
            beginning = (await _read(response, ERROR_BYTES))[:ERROR_BYTES]
            return Answer(response.status_code, response.headers, bytes(beginning))
        # Compression is not asked for: a few bytes could fill the memory when they are unpacked.
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", ""):
            raise BrokenAnswer(f"its body is compressed as {coding[:40]!r}, which was not asked for")
        body = await _read(response, max_bytes)
        if len(body) > max_bytes:
            raise AnswerTooLarge
        return Answer(response.status_code, response.headers, bytes(body))


async def _read(response: httpx.Response, max_bytes: int) -> bytearray:
    """The body; of a longer one a little more than `max_bytes` bytes."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            break
    return body


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
        remaining = max(0.0, deadline - (state.seconds_since_start or 0.0))
        return state.attempt_number > options.retries or requested_wait(state) > min(options.max_retry_wait, remaining)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Retryable),
        stop=is_over,
        wait=lambda state: max(requested_wait(state), jittered(state)),
        sleep=asyncio.sleep,
        reraise=True,
    )


class Key(httpx.Auth):
    """A key, or none. It is sent in one header and never shown."""

    def __init__(self, secret: str = "", *, header: str = "Authorization") -> None:
        self._secret, self._header = secret, header

    @classmethod
    def from_environment(cls, name: str | None, *, header: str, where: str) -> Key:
        """The key in variable `name`; no key when `name` is None.

        Raises:
            ConfigError: `name` is not a variable's name (it may be the key itself, so it is not shown), is not set, or
                holds what no header can.
        """
        if name is None:
            return cls()
        if not _ENV_NAME.fullmatch(name):
            raise ConfigError(
                "api_key_env is not the name of an environment variable",
                where=where,
                expected="a name in capitals such as OPENAI_API_KEY, not the key",
                do="export the key under such a name and write that name; a key in a config file is no secret any more",
            )
        secret = os.environ.get(name, "").strip()
        if not secret:
            raise ConfigError(f"environment variable {name} is not set", where=where, do=f"export {name}=...")
        if not _HEADER_TEXT.fullmatch(secret):  # HTTP libraries quote such a header in their errors
            raise ConfigError(
                f"the key in environment variable {name} cannot be sent",
                where=where,
                got="spaces, line breaks or characters beyond ASCII",
                do=f"export {name} again; was more than the key copied?",
            )
        return cls(secret, header=header)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the key to `request`."""
        if self._secret:
            bearer = "Bearer " if self._header.lower() == "authorization" else ""
            request.headers[self._header] = bearer + self._secret
        yield request

    def redact(self, text: str) -> str:
        """`text` without the key, or a beginning of it, which a server that shortens texts may show."""
        secret = self._secret
        forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1]} if secret else ()
        for form in forms:  # the ways in which an answer may contain it: plain, in JSON, in an address, in Python
            first, *parts = text.split(form[:_REDACTED])
            lengths = [len(os.path.commonprefix([part, form[_REDACTED:]])) for part in parts]  # noqa: RUF071  # no paths
            text = first + "".join(HIDDEN + part[n:] for part, n in zip(parts, lengths, strict=True))
        return text

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled; make the adapter again where it is needed")

    def __repr__(self) -> str:
        return "Key(***)" if self._secret else "Key()"


def checked_url(url: str, *, where: str) -> str:
    """`url` without a slash at its end.

    Raises:
        ConfigError: it is no http(s) address, or it holds a password or a query, which may hold a key and is not shown.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            "base_url holds more than an address",
            where=where,
            expected="https://host/path, without user, password or query",
            do="put the key into an environment variable and name that in api_key_env",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "base_url is not an address of a web server",
            where=where,
            got=repr(url[:80]),
            expected="http(s)://host/path",
        )
    return url.rstrip("/")
