"""`Endpoint`: JSON over HTTP with retries, several requests at once, and errors that show no key."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import httpx

from diptych.errors import RemoteError
from diptych_adapters.remote.clients import Clients
from diptych_adapters.remote.options import RemoteOptions
from diptych_adapters.remote.retrying import Again, is_worth_retrying, retry_after, retrying
from diptych_adapters.remote.secrets import Key, checked_url

_SHOWN = 200  # characters of an answer that an error shows


class Endpoint:
    """A server that is asked by POST.

    Redirects are not followed: a POST would change its method or carry the key to another host.

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
        self._clients = Clients(_maker(options, self._key), most=options.max_concurrency)
        weakref.finalize(self, self._clients.close)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to one request.

        Raises:
            RemoteError: no answer after all retries, a refusal, a redirect, or an answer that is not JSON; attributes
                `status` and `attempts` in its `context`.
        """
        return self._patiently("POST", path, body, threading.Event())

    def get(self, path: str) -> Any:
        """The JSON answer to a GET; errors as in `post`."""
        return self._patiently("GET", path, None, threading.Event())

    def post_each(self, path: str, bodies: Sequence[Any]) -> list[Any]:
        """The answers to several requests in their order, `max_concurrency` at a time; the first failure ends all."""
        if len(bodies) <= 1:
            return [self.post(path, body) for body in bodies]
        cancelled = threading.Event()
        with ThreadPoolExecutor(min(self._options.max_concurrency, len(bodies)), "diptych-remote") as pool:
            futures = [pool.submit(self._patiently, "POST", path, body, cancelled) for body in bodies]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                return [future.result() for future in futures]
            finally:
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def error(
        self, what: str, path: str, *, got: object = "", expected: object = "", do: str = "", **context: object
    ) -> RemoteError:
        """A RemoteError about this endpoint, its texts without the key."""
        shown = self._key.redact(" ".join(str(got).split()))
        where = f"{self.url}{path} (adapter {self._name!r})"
        return RemoteError(what, where=where, got=shown, expected=expected, do=do, **context)

    def _patiently(self, method: str, path: str, body: Any, cancelled: threading.Event) -> Any:
        options = self._options
        attempts = retrying(
            retries=options.retries, backoff=options.backoff, longest=options.max_retry_wait, cancelled=cancelled
        )
        try:
            return attempts(self._once, method, path, body)
        except Again as last:
            failure = last.error
        count = attempts.statistics["attempt_number"]
        raise RemoteError(
            f"{failure.what}, {count} attempts" if count > 1 else failure.what,
            where=failure.where, got=failure.got, expected=failure.expected, do=failure.do,
            **failure.context, attempts=count,
        )  # fmt: skip

    def _once(self, method: str, path: str, body: Any) -> Any:
        failure: Exception
        try:
            with self._clients.one() as client:
                response = client.request(method, self.url + path, json=body)
            return self._answer(response, path)
        except httpx.TransportError as error:
            failure = Again(self._silent(error, path))
        except httpx.HTTPError as error:
            failure = self.error("the request failed", path, got=f"{type(error).__name__}: {error}")
        raise failure  # outside of the except block, so that it does not drag the request along

    def _answer(self, response: httpx.Response, path: str) -> Any:
        if response.is_success:
            return self._json(response, path)
        status, text = response.status_code, response.text
        if response.is_redirect:
            target = response.headers.get("location", "")
            raise self.error(
                "the endpoint redirects, and redirects are not followed", path, got=f"{status} to {target[:_SHOWN]}",
                do="set base_url to the address that answers", status=status,
            )  # fmt: skip
        failure = self.error(
            f"the endpoint answered {status}", path, got=text[:_SHOWN], do=_advice(status), status=status
        )
        if is_worth_retrying(status, text):
            raise Again(failure, retry_after=retry_after(response.headers.get("retry-after")))
        raise failure

    def _json(self, response: httpx.Response, path: str) -> Any:
        try:
            return json.loads(response.content)
        except ValueError:
            shown = response.text[:_SHOWN]
        raise self.error(
            "the endpoint's answer is not JSON", path, got=shown, do="is base_url right?", status=response.status_code
        )

    def _silent(self, error: httpx.TransportError, path: str) -> RemoteError:
        late = isinstance(error, httpx.TimeoutException)
        return self.error(
            f"no answer within {self._options.timeout:g} s" if late else "the endpoint does not answer",
            path,
            got=f"{type(error).__name__}: {error}".rstrip(": "),
            do="give it a longer `timeout` or a smaller `batch_size`" if late else "is it running, is base_url right?",
        )


def _maker(options: RemoteOptions, key: Key) -> Callable[[], httpx.Client]:
    """Makes clients; certificates are read once for all of them."""
    context = httpx.create_ssl_context()
    timeout = httpx.Timeout(options.timeout, connect=min(options.timeout, 10.0))
    return lambda: httpx.Client(auth=key, timeout=timeout, verify=context, follow_redirects=False)


def _advice(status: int) -> str:
    if status in (401, 403):
        return "check the key in the environment variable that api_key_env names"
    if status == 404:
        return "check base_url and the model's name"
    if status in (413, 422):
        return "give a smaller `batch_size` or cut texts with `max_characters`"
    return "the endpoint is overloaded; lower `max_concurrency`" if status == 429 else ""
