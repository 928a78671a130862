"""Requests to the holder: points as JSON, checked as the holder's process checks them.

JSON has no NaN and no infinity. Sent as null they would be stored as null, or refused in other words than the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel
from qdrant_client import models

from qdrant_edge_client.convert.json_payloads import require_json
from qdrant_edge_client.convert.points import misfit
from qdrant_edge_client.convert.vector_flaws import FINITE, flaw_of_dense, flaw_of_sparse
from qdrant_edge_client.errors import CollectionError

_BULK = (models.PointStruct, models.PointVectors, models.Batch, models.SparseVector)
_POINTS = (models.PointStruct, models.PointVectors)


class Json:
    """A body that is JSON already, with the method that qdrant-client calls on its own models."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        return self._content


def body(content: dict[str, Any]) -> Json:
    """The body of a write.

    Raises:
        CollectionError: a vector or payload that the engine would refuse, or that is not JSON.
    """
    names = {"shard_key_selector": "shard_key"}
    fields = {names.get(name, name): value for name, value in content.items() if value is not None}
    fields = {name: value for name, value in fields.items() if name not in ("ordering", "timeout", "wait")}
    check(fields.get("points", ()))
    check([fields["batch"]] if "batch" in fields else ())
    try:
        return Json(orjson.dumps(fields, default=_serializable, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:  # integers over 64 bit, keys that are no text, many levels, or what is not JSON at all
        return Json(_slow_json(fields))


def check(items: Iterable[Any]) -> None:
    """Check points, batches and update operations, as far as JSON would change them.

    Raises:
        CollectionError: see `body`.
    """
    for item in items:
        if isinstance(item, _POINTS):
            payload = getattr(item, "payload", None)
            if payload:
                require_json(payload, f"point {item.id}")
            for name, vector in (item.vector if isinstance(item.vector, dict) else {"": item.vector}).items():
                _check_vector(name, vector, item.id)
        elif isinstance(item, models.Batch):
            _check_batch(item)
        elif isinstance(item, models.SetPayload):
            require_json(item.payload or {}, "the payload")
        elif isinstance(item, models.PointsList | models.UpdateVectors):
            check(item.points)
        elif isinstance(item, models.PointsBatch):
            check([item.batch])
        elif isinstance(item, BaseModel) and type(item).__name__.endswith("Operation"):
            check(item.__dict__.values())


def _check_batch(batch: models.Batch) -> None:
    vectors: Any = batch.vectors
    for name, column in (vectors if isinstance(vectors, dict) else {"": vectors}).items():
        for identifier, vector in zip(batch.ids, column, strict=False):
            _check_vector(name, vector, identifier)
    for identifier, payload in zip(batch.ids, batch.payloads or repeat(None), strict=False):
        require_json(payload or {}, f"point {identifier}")


def _check_vector(name: str, vector: Any, identifier: Any) -> None:
    flaw = ""
    if isinstance(vector, models.SparseVector):
        flaw = flaw_of_sparse(vector.indices, vector.values)
    elif isinstance(vector, list | np.ndarray):
        flaw = flaw_of_dense(vector)
    if flaw:
        raise misfit(name, identifier, flaw, FINITE)


def _slow_json(content: dict[str, Any]) -> bytes:
    """The JSON of values that orjson rejects but the engine accepts, or rejects with a text of its own."""
    try:
        return json.dumps(content, default=_listed, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CollectionError("a point has a vector or payload that Qdrant cannot keep", got=error) from error


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else _serializable(value)


def _serializable(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # only one that lies in pieces comes here
        return np.ascontiguousarray(value, np.float32)
    if isinstance(value, _BULK):
        return {name: part for name, part in value.__dict__.items() if part is not None}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")
