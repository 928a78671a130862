"""Ensures that payloads and metadata contain only JSON values, however they reach the engine."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import to_jsonable_python

from qdrant_edge_client.errors import CollectionError

DEEPEST = 64  # levels of a payload: beyond 125 Edge writes to its log what it cannot read again, and all is lost
KEEPS = "JSON values: text, finite numbers, true and false, null, lists and objects"


def jsonable(payload: Any, where: str = "the payload") -> Any:
    """The payload as JSON values: dates and UUIDs become text, as when sent to a server.

    Raises:
        CollectionError: it holds what JSON cannot, or is nested more than `DEEPEST` levels.
    """
    if payload is None:
        return None
    require_json(payload, where)
    try:
        return to_jsonable_python(payload)
    except (TypeError, ValueError, RecursionError) as raw:
        raise _unfit(where, raw) from raw


def require_json(value: Any, where: str, level: int = 1) -> None:
    """Check depth, numbers and text. Other objects are left to the JSON encoder, which accepts some, like dates.

    Raises:
        CollectionError: see `jsonable`.
    """
    if level > DEEPEST:
        what = "a payload is nested too deeply for the embedded store"
        raise CollectionError(what, where=where, expected=f"at most {DEEPEST} levels", do="flatten it")
    if isinstance(value, dict):
        for key in value:
            _require_text(key, where)
        value = value.values()
    for part in value:
        if isinstance(part, dict | list | tuple):
            require_json(part, where, level + 1)
        elif isinstance(part, str):
            _require_text(part, where)
        elif isinstance(part, bytes | bytearray) or (isinstance(part, float) and not math.isfinite(part)):
            raise _unfit(where, part)


def _require_text(text: Any, where: str) -> None:
    if isinstance(text, str) and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as raw:  # half of a surrogate pair
            raise _unfit(where, raw) from raw


def _unfit(where: str, got: object) -> CollectionError:
    return CollectionError(
        "a payload that Qdrant cannot keep: a value is not JSON", where=where, got=got, expected=KEEPS
    )
