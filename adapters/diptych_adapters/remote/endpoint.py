"""`Endpoint`: JSON over HTTP with deadlines, retries and parallel requests, and errors that show no key."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable, Coroutine, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx

from diptych.errors import RemoteError
from diptych_adapters.remote.clients import Clients
from diptych_adapters.remote.event_loop import EventLoop
from diptych_adapters.remote.http_exchange import Answer, Broken, TooLarge, Unanswered, exchange
from diptych_adapters.remote.options import RemoteOptions
from diptych_adapters.remote.retry import Again, is_worth_retrying, retry_after, retrying
from diptych_adapters.remote.secrets import Key, checked_url

_SHOWN = 200  # characters of an answer that an error shows
_CONNECT = 10.0  # seconds in which a connection is made, if at all, and TLS again


class Endpoint:
    """A server that receives POST requests.

    Redirects are not followed: a POST would change its method or carry the key to another host. Cookies are not kept.

    Args:
        options: address, key, patience.
        name: the adapter's, for errors.

    Raises:
        ConfigError: the address or the key is not usable.
    """

    def __init__(self, options: RemoteOptions, *, name: str) -> None:
        where = f"adapter {name!r}"
        self.url = checked_url(options.base_url, where=where)
        self._name, self._options = name, options
        self._key = Key.from_environment(options.api_key_env, header=options.api_key_header, where=where)
        self._make = _maker(options, self._key)
        self._clients: dict[EventLoop, Clients] = {}  # a forked process has its own loop, and must not share sockets
        weakref.finalize(self, _close, self._clients)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to one request.

        Raises:
            RemoteError: no answer in time or after all retries, a refusal, a redirect, an answer that is too large or
                not JSON; attributes `status` and `attempts` in its `context`.
        """
        return self.post_each(path, [body])[0]

    def get(self, path: str) -> Any:
        """The JSON answer to a GET; errors as in `post`."""
        return self._json(_run(self._patiently("GET", path, None, self._options.deadline)), path)

    def post_each(self, path: str, bodies: Sequence[Any], *, deadline: float | None = None) -> list[Any]:
        """The answers to several requests in their order, `max_concurrency` at a time; the first failure ends all.

        Args:
            path, bodies: what is posted where.
            deadline: seconds for each request with its retries; those of the options unless given.
        """
        written = [self._written(body, path) for body in bodies]
        answers = _run(self._each(path, written, deadline or self._options.deadline)) if written else []
        return [self._json(answer, path) for answer in answers]

    def error(
        self, what: str, path: str, *, got: object = "", expected: object = "", do: str = "", **context: object
    ) -> RemoteError:
        """A RemoteError about this endpoint. `got` may be long: it is cut here, once the key is out of it."""
        shown = _printable(" ".join(self._key.redact(str(got)).split()))[:_SHOWN]
        where = f"{self.url}{path} (adapter {self._name!r})"
        return RemoteError(what, where=where, got=shown, expected=expected, do=do, **context)

    def _written(self, body: Any, path: str) -> bytes:
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            problem = type(error).__name__
        raise self.error(
            "a text or option cannot be sent as JSON", path, got=problem, expected="UTF-8 text and finite numbers"
        )

    async def _each(self, path: str, bodies: Sequence[bytes], deadline: float) -> list[Answer]:
        room = asyncio.Semaphore(self._options.max_concurrency)

        async def one(body: bytes) -> Answer:
            async with room:
                return await self._patiently("POST", path, body, deadline)

        tasks = [asyncio.ensure_future(one(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _patiently(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        """The answer to one request, with all retries within `deadline` seconds."""
        failures = list[RemoteError]()

        async def attempt() -> Answer:
            try:
                return await self._once(method, path, body)
            except Again as again:
                failures.append(again.error)
                raise

        attempts = retrying(self._options, deadline)
        try:
            async with asyncio.timeout(deadline):
                return await attempts(attempt)
        except Again:
            failure = failures[-1]
        except TimeoutError:
            failure = self._overdue(path, failures, deadline)
        raise _counted(failure, attempts.statistics["attempt_number"])

    async def _once(self, method: str, path: str, body: bytes | None) -> Answer:
        """One attempt. Its time counts from a free connection to the last byte."""
        options, failure = self._options, Exception()
        clients = self._clients.setdefault(EventLoop.of_process(), Clients(self._make, most=options.max_concurrency))
        try:
            return self._checked(await self._exchanged(clients, method, path, body), path)
        except TimeoutError:
            failure = Again(self._late(path))
        except Broken as error:
            failure = Again(self.error("the endpoint's answer is incomplete", path, got=error))
        except TooLarge:
            failure = self._too_large(path)
        except Unanswered as error:
            failure = Again(self._silent(error.error, path))
        except httpx.TransportError as error:
            failure = Again(self._silent(error, path))
        except httpx.HTTPError as error:
            failure = self.error("the request failed", path, got=f"{type(error).__name__}: {error}")
        raise failure  # outside of the except block, so that it does not drag the request along

    async def _exchanged(self, clients: Clients, method: str, path: str, body: bytes | None) -> Answer:
        """The answer; over a new connection if the server had closed the kept one, which it may do at any moment.

        A server may close a kept connection at any moment, also while a request is on its way.
        """
        url, options, kept = self.url + path, self._options, False
        try:
            async with clients.one() as (client, kept), asyncio.timeout(options.timeout):
                return await exchange(client, method, url, body, most=options.most_bytes)
        except Unanswered:
            if not kept:
                raise
        async with clients.one(new=True) as (client, _), asyncio.timeout(options.timeout):
            return await exchange(client, method, url, body, most=options.most_bytes)

    def _checked(self, answer: Answer, path: str) -> Answer:
        """The answer, if it is a success."""
        status = answer.status
        if 200 <= status < 300:
            return answer
        if 300 <= status < 400 and "location" in answer.headers:
            raise self.error(
                "the endpoint redirects, and redirects are not followed", path,
                got=f"{status} to {answer.headers['location']}",
                do="set base_url to the address that answers", status=status,
            )  # fmt: skip
        failure = self.error(
            f"the endpoint answered {status}", path, got=answer.text, do=_advice(status), status=status
        )
        if is_worth_retrying(status, answer.text):
            raise Again(failure, retry_after=retry_after(answer.headers.get("retry-after")))
        raise failure

    def _json(self, answer: Answer, path: str) -> Any:
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
        what = "the endpoint's answer is nested too deeply" if deep else "the endpoint's answer is not JSON"
        raise self.error(what, path, got=answer.text, do="is base_url right?", status=answer.status)

    def _too_large(self, path: str) -> RemoteError:
        return self.error(
            "the endpoint's answer is too large", path, expected=f"at most {self._options.most_bytes:,} bytes",
            do="give a smaller `batch_size` or a larger `max_answer_size`; is base_url right?",
        )  # fmt: skip

    def _late(self, path: str) -> RemoteError:
        return self.error(
            f"no complete answer within {self._options.timeout:g} s", path,
            do="give it a longer `timeout` or a smaller `batch_size`",
        )  # fmt: skip

    def _overdue(self, path: str, failures: Sequence[RemoteError], deadline: float) -> RemoteError:
        """The error for a request whose time is up: in an attempt, between two, or waiting for a connection."""
        last = f"before: {failures[-1].what}" if failures else "all `max_concurrency` requests are under way"
        return self.error(
            f"no answer within its deadline of {deadline:g} s", path, got=last,
            do="is the endpoint overloaded? give it a longer `deadline` or `query_deadline`",
        )  # fmt: skip

    def _silent(self, error: httpx.TransportError, path: str) -> RemoteError:
        late = isinstance(error, httpx.TimeoutException)
        return self.error(
            "no connection in time" if late else "the endpoint does not answer",
            path,
            got=f"{type(error).__name__}: {error}".rstrip(": "),
            do="is it running, is base_url right?",
        )


T = TypeVar("T")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return EventLoop.of_process().run(work)


def _close(clients: dict[EventLoop, Clients]) -> None:
    for loop, own in clients.items():
        loop.start(own.close())


def _maker(options: RemoteOptions, key: Key) -> Callable[[], httpx.AsyncClient]:
    """Makes clients; certificates are read once for all of them."""
    context = httpx.create_ssl_context()
    # So that connecting ends by itself: httpcore leaves a socket open when it is cancelled within a TLS handshake.
    timeout = httpx.Timeout(None, connect=min(options.timeout / 2, _CONNECT))
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return lambda: httpx.AsyncClient(
        auth=key,
        timeout=timeout,
        verify=context,
        cookies=no_cookies,
        follow_redirects=False,
        headers={"accept-encoding": "gzip"},
    )


def _counted(failure: RemoteError, attempts: int) -> RemoteError:
    return RemoteError(
        f"{failure.what}, {attempts} attempts" if attempts > 1 else failure.what,
        where=failure.where, got=failure.got, expected=failure.expected, do=failure.do,
        **failure.context, attempts=attempts,
    )  # fmt: skip


def _printable(text: str) -> str:
    """The text without characters that would move a terminal's cursor or cannot be written as UTF-8."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _advice(status: int) -> str:
    if status in (401, 403):
        return "check the key in the environment variable that api_key_env names"
    if status == 404:
        return "check base_url and the model's name"
    if status in (413, 422):
        return "give a smaller `batch_size` or cut texts with `max_characters`"
    return "the endpoint is overloaded; lower `max_concurrency`" if status == 429 else ""
