"""Points on their way to a server: numbers go from numpy into the request as they lie in memory.

gRPC keeps a vector as the bytes of its float32 numbers, so a row of a matrix is copied as a whole; no Python object is
made of a number. In JSON each number is the shortest text that gives the same float32 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc

_POINTS, _ARRAYS = (models.PointStruct, models.PointVectors), (np.ndarray, models.SparseVector)
_DATA = b"\x0a"  # of DenseVector: field 1, a run of bytes


def is_columnar(points: object) -> bool:
    """Whether these are points whose vectors are named numpy arrays or sparse vectors, as populate makes them."""
    if not isinstance(points, list):
        return False
    for point in points:
        if not isinstance(point, _POINTS) or not isinstance(point.vector, dict):
            return False
        for vector in point.vector.values():
            if not isinstance(vector, _ARRAYS):
                return False
    return True


class JsonPoints:
    """The body of a write over HTTP; qdrant-client asks it for its JSON as it asks its own models."""

    def __init__(self, points: Sequence[models.PointStruct | models.PointVectors], shard_key: Any = None) -> None:
        self._points, self._shard_key = points, shard_key

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        points = [_json_point(point) for point in self._points]
        body = {"points": points} if self._shard_key is None else {"points": points, "shard_key": self._shard_key}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _json_point(point: models.PointStruct | models.PointVectors) -> dict[str, Any]:
    vectors: Any = point.vector
    made = {"id": point.id, "vector": {name: _json_vector(vector) for name, vector in vectors.items()}}
    return {**made, "payload": point.payload} if isinstance(point, models.PointStruct) else made


def _json_vector(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return np.ascontiguousarray(vector, np.float32)


def add_points(request: grpc.UpsertPoints, points: Sequence[models.PointStruct]) -> None:
    """Add points to a request. They are made in their places within it, because protobuf copies what it is given."""
    for point in points:
        made = request.points.add(id=_point_id(point.id), payload=payload_to_grpc(point.payload or {}))
        _set_vectors(made.vectors.vectors, point.vector)


def add_point_vectors(request: grpc.UpdatePointVectors, points: Sequence[models.PointVectors]) -> None:
    """Add new vectors of points that exist to a request."""
    for point in points:
        made = request.points.add(id=_point_id(point.id))
        _set_vectors(made.vectors.vectors, point.vector)


def _point_id(identifier: Any) -> Any:
    if type(identifier) is str:
        return {"uuid": identifier}
    return {"num": identifier} if type(identifier) is int else RestToGrpc.convert_extended_point_id(identifier)


def _set_vectors(named: Any, vectors: Any) -> None:
    """Set named vectors; a point may have none of them."""
    if not vectors:
        named.SetInParent()
    made = named.vectors
    for name, vector in vectors.items():
        if isinstance(vector, models.SparseVector):
            made[name].sparse.indices.extend(vector.indices)
            made[name].sparse.values.extend(vector.values)
        elif vector.ndim == 2:
            for row in vector:
                made[name].multi_dense.vectors.add().MergeFromString(_dense(row))
        else:
            made[name].dense.MergeFromString(_dense(vector))


def _dense(row: Any) -> bytes:
    content = np.ascontiguousarray(row, "<f4").tobytes()
    return _prefix(len(content)) + content


@lru_cache(maxsize=256)
def _prefix(length: int) -> bytes:
    return _DATA + _varint(length)


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
