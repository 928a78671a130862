"""`Gate` admits requests with a valid key; `Refused` is the answer to others, and to errors."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import diptych.runtime.lazy_imports  # noqa: F401
from diptych import errors
from diptych.errors import DiptychError
from diptych.runtime.sockets import host_name
from diptych_serve.service.access import Keys

LOG = logging.getLogger("diptych.service")
# The first matching class wins.
_STATUS: tuple[tuple[type[DiptychError], int], ...] = (
    (errors.UnknownAdapter, 404),
    (errors.CollectionNotFound, 404),
    (errors.SearchError, 400),
    (errors.AdapterOptionsError, 400),
    (errors.DocumentError, 400),
    (errors.SyncRefused, 409),
    (errors.SwapError, 409),
    (errors.EvaluationError, 400),
    (errors.TuneError, 400),
    (errors.MissingExtra, 501),
    (errors.StoreUnsupported, 501),
    (errors.RemoteError, 502),
    (errors.AdapterCrashed, 500),
    (errors.Overloaded, 503),
    (errors.StoreUnavailable, 503),
    (errors.StoreLocked, 503),
    (errors.StoreReadOnly, 403),
    (errors.StoreFull, 507),
    (errors.StoreError, 503),
    (errors.FingerprintMismatch, 500),
    (errors.CollectionError, 400),
    (DiptychError, 500),
)
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}

OPEN = ("/healthz", "/readyz")  # answered without a key
POLLED = (*OPEN, "/metrics")  # asked every few seconds, so logged only where details are


class Gate:
    """Checks requests in front of an ASGI application.

    Args:
        app: what answers.
        keys: required of callers; without keys the server is open.
        hosts: names by which it may be called, any for none: against pages that a browser takes for others.
        origins: web pages that may ask; None leaves that to the application. A browser says on whose behalf it asks,
            and would send a simple request even where it shows the page no answer.
        own_page: whether the service has a page of its own, which may ask from a browser.
        is_public: whether a path needs no key, beside those of health.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        hosts: Sequence[str] = (),
        origins: Sequence[str] | None = None,
        own_page: bool = False,
        is_public: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._app, self._keys, self._is_public, self._own_page = app, keys, is_public, own_page
        self._hosts = frozenset(map(str.lower, hosts))
        self._origins = None if origins is None or "*" in origins else frozenset(map(str.lower, origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refused = self._refused(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (refused.response() if refused else self._app)(scope, receive, send)

    def _refused(self, path: str, headers: Headers) -> Refused | None:
        if self._hosts and host_name(headers.get("host", "")) not in self._hosts:
            return Refused(421, "the service is not called by this name\n  do: --allowed-host NAME", code="wrong_host")
        if self._is_foreign(headers):
            do = "--cors-origin ORIGIN, where that page may ask"
            return Refused(403, f"this web page may not ask the service\n  do: {do}", code="wrong_origin")
        given = headers.get("authorization", "")
        if self._keys and path not in OPEN and not self._is_public(path) and not self._keys.accept(given):
            challenge = {"WWW-Authenticate": "Bearer"}
            return Refused(401, _key_message(given), code="invalid_api_key", headers=challenge)
        return None

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser asks on behalf of a page that may not ask."""
        origin = headers.get("origin", "").lower()
        if not origin or self._origins is None or origin in self._origins:
            return False
        host = headers.get("host", "").lower()
        # A page of another host could pass for this one if its name led here; it has no key, and no number is a name.
        is_sure = bool(self._hosts or self._keys) or _is_address(host_name(host))
        return not (self._own_page and is_sure and origin.partition("://")[2] == host)


def _key_message(header: str) -> str:
    """Whether a key is missing, sent in another form, or wrong. It never contains the header, which may be a key."""
    scheme, _, key = header.strip().partition(" ")
    if not header.strip():
        got = "no header Authorization"
    elif scheme.lower() != "bearer":
        got = "the header Authorization without the word Bearer"
    elif not key.strip():
        got = "the header Authorization with no key after Bearer"
    else:
        do = "send one of the keys that the service was started with, in full"
        return f"the API key is wrong\n  where: the header Authorization: Bearer KEY\n  do: {do}"
    do = "send the header Authorization: Bearer KEY, with a key of this service"
    return f"an API key is needed\n  got: {got}\n  do: {do}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Refused(Exception):
    """A refused request.

    Args:
        status: HTTP status.
        message: what is wrong, and what to do.
        code: machine-readable code.
        param: the field of the request that is wrong.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers

    @property
    def fields(self) -> dict[str, Any]:
        """`{"message", "type", "param", "code"}`, as OpenAI's API has them."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}

    def response(self) -> JSONResponse:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return JSONResponse({"error": self.fields}, self.status, self.headers)


def refusal_of(error: Exception) -> Refused:
    """The answer for an error. Errors that are not diptych's are faults: logged, without sending their text."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, DiptychError):
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        code = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(error).__name__).lstrip("_")
        return Refused(status, str(error), code=code)
    LOG.error("a request failed", exc_info=error)
    return Refused(500, "an unexpected error; the server's log has it", code="internal_error")
