"""`Endpoint`: JSON over HTTP with deadlines, retries and parallel requests, and errors that show no key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, ClassVar, TypeVar

import httpx
import numpy as np

from diptych.errors import ContractError, RemoteError
from diptych.protocols import Fingerprint
from diptych.runtime.sockets import EVENT_HOOKS
from diptych.types import Floats
from diptych_adapters.remote.http_exchange import (
    Answer,
    AnswerTooLarge,
    BrokenAnswer,
    Clients,
    Key,
    Retryable,
    Unanswered,
    checked_url,
    exchange,
    is_worth_retrying,
    retry_after,
    retry_policy,
)
from diptych_adapters.remote.options import RemoteOptions, TeiServerOptions

_MODEL_FACTS = ("model_id", "model_sha", "model_type", "max_input_length")  # of text-embeddings-inference
_TEXT_FACTS = {"query_prompt", "document_prompt", "query_fields", "document_fields", "max_characters"}

L = TypeVar("L")

_EXCERPT = 200  # characters of an answer that an error shows
_CONNECT_SECONDS = 10.0  # longest wait in seconds for a connection, and again for TLS


class Endpoint:
    """A server that receives POST requests.

    Redirects are not followed: a POST would change its method or carry the key to another host. Cookies are not kept.

    Args:
        options: address, key, timeouts.
        name: the adapter's, for errors.

    Raises:
        ConfigError: the address or the key is not usable.
    """

    def __init__(self, options: RemoteOptions, *, name: str) -> None:
        where = f"adapter {name!r}"
        self.url = checked_url(options.base_url, where=where)
        self._name, self._options = name, options
        self._key = Key.from_environment(options.key_variable, header=options.api_key_header, where=where)
        self._make_client = _client_factory(options, self._key)
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
        answer = EventLoop.of_process().run(self._with_retries("GET", path, None, self._options.deadline))
        return self._json(answer, path)

    def post_each(self, path: str, bodies: Sequence[Any], *, deadline: float | None = None) -> list[Any]:
        """The answers to several requests in their order, `max_concurrency` at a time; the first failure ends all.

        Args:
            path: below the endpoint's address.
            bodies: of the requests.
            deadline: seconds for each request with its retries; those of the options unless given.
        """
        contents = [self._serialized(body, path) for body in bodies]
        if not contents:
            return []
        answers = EventLoop.of_process().run(self._each(path, contents, deadline or self._options.deadline))
        return [self._json(answer, path) for answer in answers]

    def error(
        self, what: str, path: str, *, got: object = "", expected: object = "", do: str = "", **context: object
    ) -> RemoteError:
        """A RemoteError about this endpoint. `got` may be long: the key is removed from it, then it is cut."""
        text = " ".join(self._key.redact(str(got)).split())
        # Without characters that would move a terminal's cursor or cannot be written as UTF-8.
        excerpt = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)[:_EXCERPT]
        where = f"{self.url}{path} (adapter {self._name!r})"
        return RemoteError(what, where=where, got=excerpt, expected=expected, do=do, **context)

    def _serialized(self, body: Any, path: str) -> bytes:
        try:
            return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            problem = type(error).__name__
        raise self.error(
            "a text or option cannot be sent as JSON", path, got=problem, expected="UTF-8 text and finite numbers"
        )

    async def _each(self, path: str, bodies: Sequence[bytes], deadline: float) -> list[Answer]:
        room = asyncio.Semaphore(self._options.max_concurrency)

        async def post(body: bytes) -> Answer:
            async with room:
                return await self._with_retries("POST", path, body, deadline)

        tasks = [asyncio.ensure_future(post(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _with_retries(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        """The answer to one request, with all retries within `deadline` seconds."""
        failures = list[RemoteError]()

        async def attempt() -> Answer:
            try:
                return await self._attempt(method, path, body)
            except Retryable as again:
                failures.append(again.error)
                raise

        attempts = retry_policy(self._options, deadline)
        try:
            async with asyncio.timeout(deadline):
                return await attempts(attempt)
        except Retryable:
            failure = failures[-1]
        except TimeoutError:  # in an attempt, between two, or waiting for a connection
            state = f"before: {failures[-1].what}" if failures else "all `max_concurrency` requests are under way"
            do = "is the endpoint overloaded? give it a longer `deadline` or `query_deadline`"
            failure = self.error(f"no answer within its deadline of {deadline:g} s", path, got=state, do=do)
        count = attempts.statistics["attempt_number"]
        raise RemoteError(
            f"{failure.what}, {count} attempts" if count > 1 else failure.what,
            where=failure.where, got=failure.got, expected=failure.expected, do=failure.do,
            **failure.context, attempts=count,
        )  # fmt: skip

    async def _attempt(self, method: str, path: str, body: bytes | None) -> Answer:
        """One attempt. Its time counts from a free connection to the last byte."""
        options, failure = self._options, Exception()
        clients = self._clients.setdefault(
            EventLoop.of_process(), Clients(self._make_client, limit=options.max_concurrency)
        )
        try:
            return self._checked(await self._send(clients, method, path, body), path)
        except TimeoutError:
            what, do = (
                f"no complete answer within {options.timeout:g} s",
                "give it a longer `timeout` or a smaller `batch_size`",
            )
            failure = Retryable(self.error(what, path, do=do))
        except BrokenAnswer as error:
            failure = self.error("the endpoint's answer cannot be read", path, got=error)
        except AnswerTooLarge:
            failure = self.error(
                "the endpoint's answer is too large",
                path,
                expected=f"at most {options.most_bytes:,} bytes",
                do="give a smaller `batch_size` or a larger `max_answer_size`; is base_url right?",
            )
        except (Unanswered, httpx.TransportError) as error:
            cause = error.error if isinstance(error, Unanswered) else error
            timed_out = isinstance(cause, httpx.TimeoutException)
            what = "no connection in time" if timed_out else "the endpoint does not answer"
            got = f"{type(cause).__name__}: {cause}".rstrip(": ")
            failure = Retryable(self.error(what, path, got=got, do="is it running, is base_url right?"))
        except httpx.HTTPError as error:
            failure = self.error("the request failed", path, got=f"{type(error).__name__}: {error}")
        raise failure  # outside of the except block, so that its context does not hold the request

    async def _send(self, clients: Clients, method: str, path: str, body: bytes | None) -> Answer:
        """The answer; over a new connection if the server closed a reused one.

        A server may close an idle connection at any moment, also while a request is on its way.
        """
        url, options, reused = self.url + path, self._options, False
        try:
            async with clients.borrow() as (client, reused), asyncio.timeout(options.timeout):
                return await exchange(client, method, url, body, max_bytes=options.most_bytes)
        except Unanswered:
            if not reused:
                raise
        async with clients.borrow(new=True) as (client, _), asyncio.timeout(options.timeout):
            return await exchange(client, method, url, body, max_bytes=options.most_bytes)

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
            raise Retryable(failure, retry_after=retry_after(answer.headers.get("retry-after")))
        raise failure

    def _json(self, answer: Answer, path: str) -> Any:
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            nested = isinstance(error, RecursionError)
        what = "the endpoint's answer is nested too deeply" if nested else "the endpoint's answer is not JSON"
        raise self.error(what, path, got=answer.text, do="is base_url right?", status=answer.status)


def _close(clients: dict[EventLoop, Clients]) -> None:
    for loop, loop_clients in clients.items():
        loop.start(loop_clients.close())


def _client_factory(options: RemoteOptions, key: Key) -> Callable[[], httpx.AsyncClient]:
    """Makes clients; certificates are read once for all of them."""
    context = httpx.create_ssl_context()
    # Connecting has a timeout of its own: httpcore leaves a socket open when it is cancelled within a TLS handshake.
    timeout = httpx.Timeout(None, connect=min(options.timeout / 2, _CONNECT_SECONDS))
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return lambda: httpx.AsyncClient(
        auth=key,
        event_hooks=EVENT_HOOKS,
        timeout=timeout,
        verify=context,
        cookies=no_cookies,
        follow_redirects=False,
        headers={"accept-encoding": "identity"},
    )


def _advice(status: int) -> str:
    if status in (401, 403):
        return "check the key in the environment variable that api_key_env names"
    if status == 404:
        return "check base_url and the model's name"
    if status in (413, 422):
        return "give a smaller `batch_size` or cut texts with `max_characters`"
    return "the endpoint is overloaded; lower `max_concurrency`" if status == 429 else ""


class EventLoop:
    """An asyncio event loop in a daemon thread, for callers that wait in threads of their own.

    A thread that is blocked in a socket cannot be stopped. A coroutine can: a deadline ends it, and so does a caller
    who no longer waits. The thread is a daemon, so a server that never answers does not keep the process from ending.
    """

    _of_process: ClassVar[EventLoop | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="diptych-remote", daemon=True).start()

    @classmethod
    def of_process(cls) -> EventLoop:
        """This process's event loop; a forked child gets one of its own."""
        with cls._lock:
            if cls._of_process is None:
                cls._of_process = cls()
            return cls._of_process

    def run(self, work: Coroutine[Any, Any, L]) -> L:
        """The result of `work`, which is cancelled when the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` without waiting for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    @classmethod
    def forget(cls) -> None:
        """Drop the parent's event loop in a forked child, where its thread does not run."""
        cls._of_process, cls._lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=EventLoop.forget)


def items(endpoint: Endpoint, path: str, answer: Any, *names: str) -> list[Any]:
    """The list in `answer`, which is the list itself when there are no `names`, else under the first name it has.

    Raises:
        RemoteError: there is no such list.
    """
    entries = next((answer[name] for name in names if name in answer), None) if isinstance(answer, Mapping) else answer
    if isinstance(entries, list) and (not names or isinstance(answer, Mapping)):
        return entries
    expected = f"a list under {' or '.join(names)}" if names else "a list"
    raise endpoint.error("the endpoint's answer is malformed", path, got=as_text(answer), expected=expected)


def in_order(endpoint: Endpoint, path: str, entries: Sequence[Any], name: str, count: int) -> list[Any]:
    """The values called `name`, sorted by their `index`; as they come when no item has one.

    Raises:
        RemoteError: an item without the value.
        ContractError: not one for each of `count` inputs.
    """
    if not all(isinstance(item, Mapping) and name in item for item in entries):
        raise endpoint.error("the endpoint's answer is malformed", path, got=as_text(entries), expected=name)
    positions = [item.get("index", position) for position, item in enumerate(entries)]
    if sorted(positions, key=str) != sorted(range(count), key=str):
        raise ContractError(
            "the endpoint did not answer once for each input",
            where=f"{endpoint.url}{path}",
            got=f"{len(entries)} answers, indices {str(positions[:10])[:80]}",
            expected=f"{count}",
        )
    return [item[name] for _, item in sorted(zip(positions, entries, strict=True), key=lambda pair: pair[0])]


def matrix(endpoint: Endpoint, path: str, rows: Sequence[Any], count: int, dimension: int | None) -> Floats:
    """Vectors float32 `[count, dimension]`; a null becomes NaN, which the host takes as a bad input.

    Raises:
        RemoteError: a row holds something else than numbers.
        ContractError: another count, rows of different lengths, or another dimension.
    """
    where = f"{endpoint.url}{path}"
    if len(rows) != count:
        raise ContractError("wrong number of vectors", where=where, got=len(rows), expected=f"{count}, one per input")
    widths = {len(row) if isinstance(row, list | np.ndarray) else 1 for row in rows}
    if len(widths) > 1 or (dimension is not None and widths - {dimension}):
        expected = f"{dimension}, as declared" if dimension else "one dimension"
        got = f"vectors of {str(sorted(widths)[:10])[:80]}"
        raise ContractError("wrong dimension", where=where, got=got, expected=expected)
    vectors = _numbers(rows)
    if vectors is None or vectors.ndim > 2 or vectors.size != count * (widths or {0}).pop():
        got = next((row for row in rows if _numbers(row) is None), rows[0])
        raise endpoint.error("a vector holds values that are not numbers", path, got=as_text(got))
    return vectors.reshape(count, -1 if count else dimension or 0)


def _numbers(rows: Any) -> Floats | None:
    """The numbers as float32; None when something is none. A null becomes NaN, a number beyond float32 infinite."""
    try:
        numbers = np.array(rows)
        if numbers.dtype == object:  # nulls, or integers of any length
            are_numbers = all(value is None or type(value) in (int, float) for value in numbers.flat)
            numbers = np.array(rows, np.float64) if are_numbers else numbers
        if numbers.dtype.kind not in "fiu" and numbers.size:
            return None
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        return None


def as_text(value: Any) -> str:
    """The value as errors show it."""
    try:
        return repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def batches(texts: Sequence[str], size: int, *, prompt: str = "", longest: int | None = None) -> Iterator[list[str]]:
    """`texts` as they are sent, `size` at once: cut, with the prompt, a blank for an empty one as servers refuse it."""
    for start in range(0, len(texts), size):
        yield [prompt + text[:longest] or " " for text in texts[start : start + size]]


def space(*facts: object) -> str:
    """A hash of the model's name and of everything that changes its input."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def text_facts(options: RemoteOptions) -> dict[str, Any]:
    """The options that change which text the model reads."""
    return options.model_dump(include=_TEXT_FACTS)


def document_facts(options: RemoteOptions) -> dict[str, Any]:
    """The text options that concern documents."""
    return {name: value for name, value in text_facts(options).items() if not name.startswith("query_")}


# Of text-embeddings-inference, which tells what it serves.


def truncation(options: TeiServerOptions) -> dict[str, Any]:
    """The fields that control how long texts are cut."""
    direction = str(options.truncation_direction).capitalize()
    return {"truncate": options.truncate, "truncation_direction": direction}


def tei_fingerprint(endpoint: Endpoint, adapter: str, options: TeiServerOptions, **facts: object) -> Fingerprint:
    """The fingerprint of the served model, text truncation and `facts`; the server's precision is `numerics`."""
    info = _info(endpoint)
    model = [info.get(name) for name in _MODEL_FACTS] if info else endpoint.url.partition("://")[2]
    precision = info.get("model_dtype") or ""
    if not isinstance(precision, str) or not all(isinstance(fact, str | int | dict | None) for fact in model):
        raise endpoint.error("the server does not describe its model in a usable form", "/info", got=as_text(info))
    facts_sent = (adapter, model, truncation(options))
    documents = space(*facts_sent, document_facts(options), facts)
    return Fingerprint(space(*facts_sent, text_facts(options), facts), precision, documents)


def _info(endpoint: Endpoint) -> dict[str, Any]:
    """The server's description of itself; empty if it has no `/info`."""
    try:
        info = endpoint.get("/info")
    except RemoteError as error:
        if error.context.get("status") == 404:
            return {}
        raise
    return info if isinstance(info, dict) else {}
