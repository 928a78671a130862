"""`Gate`: admits requests with a valid key, as long as there is capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from diptych.service.api_keys import Keys
from diptych.service.error_answers import Refused

OPEN = ("/healthz", "/readyz")  # answered without a key
UNCOUNTED = (*OPEN, "/metrics")  # answered however many requests are under way


class Gate:
    """Checks requests in front of an ASGI application.

    Args:
        app: what answers.
        keys: required of callers; without keys the server is open.
        concurrent: requests that may be under way at once.
        hosts: names by which it may be called, any for none: against pages that a browser takes for others.
        origins: web pages that may ask; None leaves that to the application. A browser says on whose behalf it asks,
            and would send a simple request even where it shows the page no answer.
        is_public: whether a path needs no key, beside those of health.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        concurrent: int,
        hosts: Sequence[str] = (),
        origins: Sequence[str] | None = None,
        is_public: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._is_public = is_public
        self._app, self._keys, self._concurrent = app, keys, concurrent
        self._hosts, self._inside = frozenset(map(str.lower, hosts)), 0
        self._origins = None if origins is None or "*" in origins else frozenset(map(str.lower, origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        is_counted = path not in UNCOUNTED
        try:
            self._require(Headers(scope=scope), key=path not in OPEN and not self._is_public(path), room=is_counted)
        except Refused as refused:
            return await refused.response()(scope, receive, send)
        self._inside += is_counted
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= is_counted

    def _require(self, headers: Headers, *, key: bool, room: bool) -> None:
        if self._hosts and _host(headers.get("host", "")) not in self._hosts:
            raise Refused(421, "the service is not called by this name\n  do: --allowed-host NAME", code="wrong_host")
        origin = headers.get("origin")
        if origin is not None and self._origins is not None and origin.lower() not in self._origins:
            do = "--cors-origin ORIGIN, where that page may ask"
            raise Refused(403, f"this web page may not ask the service\n  do: {do}", code="wrong_origin")
        if key and self._keys and not self._keys.accept(headers.get("authorization")):
            raise Refused(
                401,
                "an API key is needed\n  expected: the header Authorization: Bearer KEY, with a key of this service",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if room and self._inside >= self._concurrent:
            raise Refused(
                429,
                f"too many requests at once\n  expected: at most {self._concurrent}\n  do: ask again in a second",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},
            )


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
