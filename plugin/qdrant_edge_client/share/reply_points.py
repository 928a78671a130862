"""Points in the holder's answers, built without validation: the holder made them of the same models.

Validating 256 records took longer than reading, sending and parsing them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

import orjson
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from qdrant_edge_client.unchecked import unchecked

Build = Callable[[Any], Any]


def holds_points(kind: Any) -> bool:
    """Whether answers of this kind hold points; `kind` is qdrant-client's model, whose `result` says what is in it."""
    return _result_of(kind) in _BUILD


def points_in(content: bytes, kind: Any) -> Any:
    """An answer that holds points, as a model."""
    raw = orjson.loads(content)
    return kind.model_construct(**{**raw, "result": _BUILD[_result_of(kind)](raw["result"])})


@cache
def _result_of(kind: Any) -> tuple[Any, ...]:
    """What an answer holds. qdrant-client numbers its models of answers anew in each release."""
    field = getattr(kind, "model_fields", {}).get("result")
    result = next((part for part in get_args(field.annotation) if part is not NoneType), None) if field else None
    return (list, *get_args(result)) if get_origin(result) is list else (result,)


def _record(raw: dict[str, Any]) -> models.Record:
    raw["vector"] = _vectors(raw["vector"])
    return _unchecked_record(raw)


def _scored(raw: dict[str, Any]) -> models.ScoredPoint:
    raw["vector"] = _vectors(raw["vector"])
    return _unchecked_scored(raw)


def _vectors(raw: Any) -> Any:
    """Vectors of a point: sparse ones are objects in JSON."""
    if not isinstance(raw, dict):
        return raw
    return {name: _unchecked_sparse(vector) if isinstance(vector, dict) else vector for name, vector in raw.items()}


def _records(raw: list[Any]) -> list[models.Record]:
    return [_record(item) for item in raw]


def _scroll(raw: dict[str, Any]) -> models.ScrollResult:
    return models.ScrollResult.model_construct(**{**raw, "points": _records(raw["points"])})


def _response(raw: dict[str, Any]) -> QueryResponse:
    return QueryResponse.model_construct(points=[_scored(item) for item in raw["points"]])


def _responses(raw: list[Any]) -> list[QueryResponse]:
    return [_response(item) for item in raw]


_unchecked_record = unchecked(models.Record)
_unchecked_scored = unchecked(models.ScoredPoint)
_unchecked_sparse = unchecked(models.SparseVector)
_BUILD: dict[tuple[Any, ...], Build] = {
    (list, models.Record): _records,
    (models.ScrollResult,): _scroll,
    (QueryResponse,): _response,
    (list, QueryResponse): _responses,
}
