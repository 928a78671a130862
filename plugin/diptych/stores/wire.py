"""Points on their way to a server: numbers go from numpy into the request as they lie in memory.

gRPC keeps a vector as the bytes of its float32 numbers, so a row of a matrix is copied as a whole; no Python object is
made of a number. In JSON each number is the shortest text that gives the same float32 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc

_DATA = b"\x0a"  # of DenseVector: field 1, a run of bytes


def is_columnar(points: object) -> bool:
    """Whether these are points whose vectors are named numpy arrays or sparse vectors, as populate makes them."""
    return isinstance(points, list) and all(
        isinstance(point, models.PointStruct | models.PointVectors)
        and isinstance(point.vector, dict)
        and _all_arrays(point.vector)
        for point in points
    )


def _all_arrays(vectors: dict[str, Any]) -> bool:
    return all(isinstance(vector, np.ndarray | models.SparseVector) for vector in vectors.values())


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


def grpc_points(points: Sequence[models.PointStruct]) -> list[grpc.PointStruct]:
    """The same points as gRPC takes them."""
    return [
        grpc.PointStruct(
            id=RestToGrpc.convert_extended_point_id(point.id),
            vectors=_vectors(point.vector),
            payload=payload_to_grpc(point.payload or {}),
        )
        for point in points
    ]


def grpc_point_vectors(points: Sequence[models.PointVectors]) -> list[grpc.PointVectors]:
    """New vectors of points that exist, as gRPC takes them."""
    return [
        grpc.PointVectors(id=RestToGrpc.convert_extended_point_id(point.id), vectors=_vectors(point.vector))
        for point in points
    ]


def _vectors(vectors: Any) -> grpc.Vectors:
    made = {name: _grpc_vector(vector) for name, vector in vectors.items()}
    return grpc.Vectors(vectors=grpc.NamedVectors(vectors=made))


def _grpc_vector(vector: Any) -> grpc.Vector:
    if isinstance(vector, models.SparseVector):
        return grpc.Vector(sparse=grpc.SparseVector(indices=vector.indices, values=vector.values))
    if vector.ndim == 2:
        return grpc.Vector(multi_dense=grpc.MultiDenseVector(vectors=[_dense(row) for row in vector]))
    return grpc.Vector(dense=_dense(vector))


def _dense(row: Any) -> grpc.DenseVector:
    content = np.ascontiguousarray(row, "<f4").tobytes()
    made: grpc.DenseVector = grpc.DenseVector.FromString(_DATA + _varint(len(content)) + content)
    return made


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
