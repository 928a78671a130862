"""Points in protobuf's encoding, as a Qdrant server reads them over gRPC.

A message object for each point, value and vector would take most of the client's time. So the bytes of a request's
points are put together here: numbers go from numpy into the request as they lie in memory.
See protobuf.dev/programming-guides/encoding; the numbers of the fields are those of Qdrant's `points.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, json_to_value, value_to_json

_POINTS = b"\x1a"  # field 3 of `UpsertPoints` and of `UpdatePointVectors`
_UUID = b"\x0a\x26\x12\x24"  # field 1 of a point, 38 bytes: field 2 of `PointId`, 36 bytes
_PAYLOAD, _VECTORS = b"\x1a", (b"\x22", b"\x12")  # fields of `PointStruct`; of it and of `PointVectors`
_ENTRY = b"\x0a"  # field 1: an entry of a map, the key of an entry, a value of a list, the points of a dense vector
_VALUE = b"\x12"  # field 2: the value of an entry
_DENSE, _SPARSE, _MULTI = b"\xaa\x06", b"\xb2\x06", b"\xba\x06"  # fields 101, 102 and 103 of `Vector`
_FLOAT = np.dtype("<f4")
_INTEGERS = range(-(2**63), 2**63)
_SHORT: Sequence[bytes] = [bytes([number]) for number in range(0x80)]


@dataclass(slots=True)
class Point:
    """A point with named vectors, as `models.PointStruct` and `models.PointVectors`, made but cheaper to make."""

    id: int | str
    vector: Mapping[str, Any]
    payload: Mapping[str, Any] | None = None


def upserted(points: Iterable[models.PointStruct | Point]) -> bytes:
    """The field `points` of `UpsertPoints`; vectors by name, as numpy arrays or sparse vectors."""
    return b"".join(
        [
            _field(_POINTS, _identifier(point.id) + _payload(point.payload or {}) + _vectors(0, point.vector))
            for point in points
        ]
    )


def updated(points: Iterable[models.PointVectors | Point]) -> bytes:
    """The field `points` of `UpdatePointVectors`."""
    return b"".join([_field(_POINTS, _identifier(point.id) + _vectors(1, point.vector)) for point in points])


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _identifier(identifier: Any) -> bytes:
    if type(identifier) is str and len(identifier) == 36:
        return _UUID + identifier.encode()
    return _field(_ENTRY, RestToGrpc.convert_extended_point_id(identifier).SerializeToString())


def _payload(payload: Mapping[str, Any]) -> bytes:
    return b"".join([_entry(_PAYLOAD, key, value) for key, value in payload.items()])


def _entry(tag: bytes, key: str, value: Any) -> bytes:
    """An entry of a map of values."""
    if type(value) is str:
        text = value.encode()
        return _before_text(tag, key, len(text)) + text
    return _field(tag, _key(key) + _field(_VALUE, _value(value)))


@lru_cache(maxsize=8192)
def _before_text(tag: bytes, key: str, length: int) -> bytes:
    """What precedes the text of an entry whose value is a text of so many bytes."""
    text = b"\x22" + _varint(length)
    head = _key(key) + _VALUE + _varint(len(text) + length) + text
    return tag + _varint(len(head) + length) + head


def _value(value: Any) -> bytes:
    """A JSON value as a `Value`. Types that are rare in payloads go through the client's own conversion."""
    kind = type(value)
    if kind is str:
        return _field(b"\x22", value.encode())
    if kind is dict and all(type(key) is str for key in value):
        return _field(b"\x32", b"".join([_entry(_ENTRY, key, own) for key, own in value.items()]))
    if kind is list:
        return _field(b"\x3a", b"".join([_field(_ENTRY, _value(own)) for own in value]))
    if kind is float:
        return b"\x11" + struct.pack("<d", value)
    if kind is int and value in _INTEGERS:
        return b"\x18" + _varint(value & (2**64 - 1))
    serialized: bytes = json_to_value(value).SerializeToString()
    return serialized


def _vectors(kind: int, vectors: Any) -> bytes:
    """Named vectors of a point that is written (0) or updated (1); it may have none of them."""
    if len(vectors) == 1:
        ((name, vector),) = vectors.items()
        if type(vector) is np.ndarray and vector.ndim == 1:
            return _single_dense(kind, name, len(vector)) + _numbers(vector)
    entries = [_field(_ENTRY, _key(name) + _field(_VALUE, _vector(vector))) for name, vector in vectors.items()]
    return _field(_VECTORS[kind], _field(_VALUE, b"".join(entries)))


@lru_cache(maxsize=256)
def _single_dense(kind: int, name: str, length: int) -> bytes:
    """What precedes the numbers of a point's only vector."""
    whole = _field(_ENTRY, _key(name) + _field(_VALUE, _vector(np.zeros(length, np.float32))))
    whole = _field(_VECTORS[kind], _field(_VALUE, whole))
    return whole[: len(whole) - 4 * length]


def _vector(vector: Any) -> bytes:
    if isinstance(vector, models.SparseVector):
        made = grpc.SparseVector(values=vector.values, indices=vector.indices)
        return _field(_SPARSE, made.SerializeToString())
    if vector.ndim == 2:
        return _field(_MULTI, b"".join([_field(_ENTRY, _dense(row)) for row in vector]))
    return _field(_DENSE, _dense(vector))


def _dense(row: Any) -> bytes:
    return _field(_ENTRY, _numbers(row)) if len(row) else b""


def _numbers(row: Any) -> bytes:
    found: bytes = (row if row.dtype == _FLOAT else row.astype(_FLOAT)).tobytes()
    return found


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _field(_ENTRY, key.encode())


def _varint(number: int) -> bytes:
    """A number in protobuf's encoding: seven bits in each byte, the lowest first."""
    if number < 0x80:
        return _SHORT[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


# Points as a server answers with them: qdrant-client looks at each id and payload in several ways.


def point_id(identifier: Any) -> grpc.PointId:
    """The message of a point id."""
    if type(identifier) is str:
        return grpc.PointId(uuid=identifier)
    return RestToGrpc.convert_extended_point_id(identifier)


def id_in(identifier: grpc.PointId) -> int | str:
    """The point id in a message."""
    found: int | str = identifier.uuid or identifier.num
    return found


def records(points: Iterable[grpc.RetrievedPoint]) -> list[models.Record]:
    """Points without vectors, as `retrieve` and `scroll` return them."""
    return [
        models.Record(
            id=id_in(point.id),
            payload={key: (value := point.payload[key]).string_value or value_to_json(value) for key in point.payload},
            shard_key=GrpcToRest.convert_shard_key(point.shard_key) if point.HasField("shard_key") else None,
        )
        for point in points
    ]
