"""Answers in Qdrant's format: the result in an envelope, or an error with its status."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from diptych import errors
from diptych_edge.rest.routes import NoRoute

_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.CollectionNotFound, 404),
    (errors.StoreUnsupported, 400),
    (errors.StoreLocked, 503),
    (errors.StoreUnavailable, 503),
    (errors.StoreFull, 507),
    (errors.StoreReadOnly, 403),
    (errors.StoreError, 500),
    (errors.DiptychError, 400),
    (NoRoute, 404),
    (LookupError, 404),
    (ValueError, 400),
)
_PARTS = ("what", "where", "got", "expected", "do")


def encoded(result: Any, seconds: float) -> bytes:
    """The JSON of a result."""
    return orjson.dumps({"result": result, "status": "ok", "time": seconds}, default=_serializable)


def refused(error: BaseException, seconds: float) -> tuple[int, bytes]:
    """Status and JSON of a failure. A DiptychError is also included in parts, so that it can be raised again."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"status": {"error": _text(error)}, "time": seconds}
    if isinstance(error, errors.DiptychError):
        parts = {part: getattr(error, part) for part in _PARTS}
        body["diptych"] = {"kind": type(error).__name__, **parts, "context": _sendable(error.context)}
    return status, orjson.dumps(body)


def _sendable(context: dict[str, Any]) -> dict[str, Any]:
    """The facts of an error that JSON can hold."""
    facts = dict[str, Any]()
    for name, value in context.items():
        try:
            facts[name] = orjson.loads(orjson.dumps(value, default=_serializable))
        except (TypeError, ValueError):  # what else an error carries is of use in its own process alone
            continue
    return facts


def rebuilt(raw: dict[str, Any]) -> errors.DiptychError | None:
    """The DiptychError in an answer, if there is one."""
    parts = raw.get("diptych")
    if not isinstance(parts, dict):
        return None
    kind = getattr(errors, str(parts.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.DiptychError)):
        kind = errors.StoreError  # of another version
    where, got, expected, do = (str(parts.get(part, "")) for part in _PARTS[1:])
    error = kind(str(parts.get("what")), where=where, got=got, expected=expected, do=do)
    context = parts.get("context")
    error.context = context if isinstance(context, dict) else {}
    return error


def _text(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"Format error in JSON body: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, NoRoute):
        return f"the embedded store has no route {error}"
    return str(error) if isinstance(error, ValueError | LookupError | errors.DiptychError) else type(error).__name__


def _serializable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.__dict__
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(type(value).__name__)
