"""Error answers: a status and OpenAI's error JSON, with the text of the error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from diptych import errors
from diptych.errors import DiptychError

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
