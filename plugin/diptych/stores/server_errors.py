"""Interprets a Qdrant server's refusals, over REST and gRPC alike, and repeats calls whose failure may pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from diptych.errors import SearchError, StoreError, StoreUnavailable

T = TypeVar("T")
_ANOTHER_TRY = {408, 425, 429}  # HTTP statuses below 500 that another try may avoid
_NO_SUCH_CALL = {404, 405, 501}
_NO_CONNECTION = ("failed to connect", "DNS resolution failed")  # how gRPC says that there is no server
LONGEST = 300  # characters that are shown of an answer


def error_line(error: BaseException) -> str:
    """The error in one line; for a server's refusal its status and message."""
    if isinstance(error, ResourceExhaustedResponse):
        return f"too many requests, again in {error.retry_after_s} s: {_line(str(error))}"
    if isinstance(error, UnexpectedResponse):
        status = f"{error.status_code} {error.reason_phrase}".strip()
        text = (error.content or b"").decode("utf-8", "replace")
        with suppress(ValueError, KeyError, TypeError, RecursionError):  # a Qdrant server sends JSON, a proxy anything
            text = str(json.loads(text)["status"]["error"])
        sentence = _line(text)
        return f"{status}: {sentence}" if sentence else status
    if name := grpc_code(error):
        details = getattr(error, "details", None)
        return f"{name}: {_line(str(details() if callable(details) else error))}"
    return f"{type(error).__name__}: {_line(str(error)) or 'no message'}"


def is_conflict(error: BaseException) -> bool:
    """Whether the object already exists, or another client is just creating it."""
    return (isinstance(error, UnexpectedResponse) and error.status_code == 409) or grpc_code(error) == "ALREADY_EXISTS"


def not_found(error: BaseException) -> bool:
    """Whether the server says that a collection or point does not exist."""
    return (isinstance(error, UnexpectedResponse) and error.status_code == 404) or grpc_code(error) == "NOT_FOUND"


def refuses_key(error: BaseException) -> bool:
    """Whether the server refuses the API key."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code in (401, 403)
    return grpc_code(error) in ("UNAUTHENTICATED", "PERMISSION_DENIED")


def is_temporary(error: BaseException) -> bool:
    """Whether the server reports a temporary failure: it is asked too often, or one of its cluster's nodes is gone.

    gRPC calls it UNAVAILABLE, too, when a connection is lost during a call.
    """
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 500
        return status >= 500 or status in _ANOTHER_TRY
    busy = isinstance(error, ResourceExhaustedResponse) or grpc_code(error) in ("INTERNAL", "RESOURCE_EXHAUSTED")
    return busy or _lost_or_unavailable(error)


def is_refusal(error: BaseException | None) -> bool:
    """Whether the store refuses the request itself, so that a retry changes nothing."""
    if isinstance(error, UnexpectedResponse):
        return not is_temporary(error) and not refuses_key(error)
    if error is not None and (code := grpc_code(error)):
        return code in ("INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND")
    return isinstance(error, SearchError | ValueError | TypeError | OverflowError | AssertionError | RecursionError)


def retried(
    call: Callable[[], T],
    *,
    pauses: Iterable[float],
    may_pass: Callable[[Exception], bool],
    wait: Callable[[float], bool],
) -> T:
    """The result of `call`, which is made again after each pause as long as its failure may pass.

    Args:
        call: what is called.
        pauses: seconds before each further try; longer where the server says when it takes requests again.
        may_pass: whether another try may succeed.
        wait: waits for so many seconds; False where there is no time for that, and so no further try.
    """
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            if not may_pass(error) or not wait(max(pause, getattr(error, "retry_after_s", 0.0))):
                raise
    return call()


def gave_no_answer(error: BaseException) -> bool:
    """Whether the server could not be reached or did not answer in time."""
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.TransportError)
    return grpc_code(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@contextmanager
def needs_answers(do: str) -> Iterator[None]:
    """Raise diptych's own error in place of the client's; `do` says what helps once the server answers.

    Raises:
        StoreUnavailable: the server does not answer, fails temporarily, or refuses the key.
        StoreError: it refuses a request; status and the server's own sentence are in `got`.
    """
    try:
        yield
    except Exception as error:
        if not comes_from_server(error):
            raise
        raise store_error(error, do) from error


def comes_from_server(error: BaseException) -> bool:
    """Whether it is an error of qdrant-client about a server, over HTTP or gRPC."""
    return isinstance(error, ApiException | ResourceExhaustedResponse) or bool(grpc_code(error))


def store_error(error: BaseException, do: str) -> StoreError:
    """diptych's error for one that comes from a server; see `needs_answers`."""
    if refuses_key(error):
        return StoreUnavailable("the store refuses the key", got=error_line(error), do="check api_key")
    if gave_no_answer(error) or is_temporary(error):
        return StoreUnavailable("the store does not answer", got=error_line(error), do=do)
    return StoreError("the store refuses a request", got=error_line(error), do="see its message and its log")


def connection_broke(error: BaseException) -> bool:
    """Whether the connection was lost during the call, so that the call may or may not have arrived."""
    broken = httpx.ReadError | httpx.WriteError | httpx.CloseError | httpx.RemoteProtocolError
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, broken)
    return _lost_or_unavailable(error)


def was_not_sent(error: BaseException) -> bool:
    """Whether the call cannot have been sent, because there was no connection."""
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.ConnectError | httpx.ConnectTimeout)
    return grpc_code(error) == "UNAVAILABLE" and not _lost_or_unavailable(error)


def too_old(error: BaseException) -> bool:
    """Whether creating or deleting a vector name failed because the server does not support it."""
    if isinstance(error, UnexpectedResponse):  # a collection that is not there is said in words, a route is not
        return error.status_code in _NO_SUCH_CALL and b"exist" not in (error.content or b"")
    return isinstance(error, NotImplementedError) or grpc_code(error) == "UNIMPLEMENTED"


def grpc_code(error: BaseException) -> str:
    """The status of a gRPC failure by name; found by its attributes, since grpc has no types."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""


def _lost_or_unavailable(error: BaseException) -> bool:
    """Whether a gRPC call failed with UNAVAILABLE on a connection: it was lost, or the server itself says so."""
    details = getattr(error, "details", None)
    text = str(details()) if callable(details) else ""
    return grpc_code(error) == "UNAVAILABLE" and not text.startswith(_NO_CONNECTION)


def _line(text: str) -> str:
    first = text.strip().splitlines()[:1]
    return (first[0] if len(first[0]) <= LONGEST else first[0][: LONGEST - 1] + "…") if first else ""
