"""Reads the requests of clients, and refuses invalid ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych_serve.service.bodies import MOST_FIELDS
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.limits import Limits

MOST_DIGITS = 19  # of a Content-Length: more than any body has; Python reads at most 4,300
JSON = "application/json"
INPUTS = ("input", "queries", "documents")
INLINE = 16 * 1024  # bytes of a body that is read within the event loop; more are read in a thread
Asked = TypeVar("Asked", bound=BaseModel)


async def read(request: Request, kind: type[Asked], limits: Limits) -> Asked:
    """Read the request's body as `kind`.

    Raises:
        Refused: it is too large, comes too slowly, is not called JSON, or is no such request.
    """
    require_kind(request, [JSON])
    try:
        async with asyncio.timeout(limits.body_seconds):
            body = await _body(request, limits.body)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {limits.body_seconds:g} s", code="timeout") from None
    except ClientDisconnect:
        raise Refused(400, "the client went away", code="disconnected") from None
    if len(body) <= INLINE:
        return parsed(body, kind, limits)
    return await asyncio.to_thread(parsed, body, kind, limits)


def parsed(body: bytes, kind: type[Asked], limits: Limits) -> Asked:
    """Parse a body as `kind`; reports only the first fault.

    Raises:
        Refused: it is no such request, or one of too many inputs.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the request cannot be read\n  expected: JSON: {error}"
        raise Refused(400, message, code="invalid_value") from None
    if isinstance(content, dict):
        _require_few(content, limits)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _malformed(error) from None


def _require_few(content: dict[str, Any], limits: Limits) -> None:
    """Raise Refused for more keys or inputs than allowed, before any is looked at."""
    if len(content) > MOST_FIELDS:
        message = f"the request has too many keys\n  got: {len(content)}\n  expected: at most {MOST_FIELDS}"
        raise Refused(400, message, code="invalid_value")
    for name, value in content.items():
        many = isinstance(value, list) and len(value) > limits.inputs
        if name in INPUTS and many and isinstance(value[0], str | dict):
            raise _too_many(len(value), limits, name)


def read_query(request: Request, kind: type[Asked]) -> Asked:
    """Read the query string as `kind`.

    Raises:
        Refused: it is none.
    """
    params = dict(request.query_params)
    if len(params) > MOST_FIELDS:
        raise Refused(400, "the query has too many keys", code="invalid_value")
    try:
        return kind.model_validate(params)
    except ValidationError as error:
        raise _malformed(error) from None


def require_kind(request: Request, kinds: Sequence[str]) -> None:
    """Raise Refused unless the body's media type is one of these.

    Any web page may have a browser send text or a form to the service without leave, but not these.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    json = kinds[0] == JSON and kind.startswith("application/") and kind.endswith("+json")
    if kind not in kinds and not json:
        raise Refused(
            415,
            f"the body is of another type\n  got: {kind[:80] or 'no Content-Type'}"
            f"\n  expected: {' or '.join(kinds)}\n  do: send the header Content-Type: {kinds[0]}",
            code="unsupported_media_type",
        )


def require_room(limits: Limits, texts: Sequence[str], *, param: str) -> None:
    """Raise Refused when there are too many inputs or one is too long."""
    if len(texts) > limits.inputs:
        raise _too_many(len(texts), limits, param)
    for position, text in enumerate(texts):
        if len(text) > limits.characters:
            raise Refused(
                422,
                f"an input is too long\n  where: {param}[{position}]\n  got: {len(text)} characters\n"
                f"  expected: at most {limits.characters}",
                code="input_too_long",
                param=param,
            )


def _too_many(count: int, limits: Limits, param: str) -> Refused:
    message = f"too many inputs in one request\n  got: {count}\n  expected: at most {limits.inputs}"
    return Refused(422, f"{message}\n  do: send them in several requests", code="too_many_inputs", param=param)


async def _body(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) <= MOST_DIGITS):
        raise Refused(400, "Content-Length is not a number of bytes", code="invalid_value")
    if int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refused:
    message = f"the request's body is too large\n  expected: at most {limit} bytes\n  do: send several requests"
    return Refused(413, message, code="request_too_large", headers={"Connection": "close"})


def _malformed(error: ValidationError) -> Refused:
    details = error.errors(include_url=False)
    if any(detail["loc"][:1] == ("input",) and isinstance(_innermost(detail["input"]), int) for detail in details):
        return Refused(
            400,
            "this service reads texts, not tokens\n  where: input\n  got: token ids\n  expected: one text or a list"
            "\n  do: tell the client not to tokenise (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            code="invalid_value",
            param="input",
        )
    first = details[0]
    where, expected = error_path(first), expectation(first, mapping="an object")
    got = actual_value(first)
    parts = (("where", where), ("got", got), ("expected", expected))
    text = "".join(f"\n  {label}: {value}" for label, value in parts if value)
    return Refused(400, f"the request cannot be read{text}", code="invalid_value", param=where or None)


def _innermost(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return None if isinstance(value, bool) else value
