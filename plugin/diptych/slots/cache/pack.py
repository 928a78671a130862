"""Vectors as bytes and back, bit for bit.

| bytes | what |
|---|---|
| 0 to 3 | CRC-32 of the key and all that follows |
| 4 | form: `d` dense, `s` sparse, `m` multi-vector |
| 5 to 8 | multi-vector: the dimension of a token; else 0 |
| rest | float32, for a sparse vector uint32 indices before them; little-endian |
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from diptych.slots.encode import Vector, is_finite
from diptych.types import Floats, SparseVector

_HEAD = struct.Struct("<cI")
_SUM = struct.Struct("<I")
_FLOAT, _INDEX = np.dtype("<f4"), np.dtype("<u4")


def pack(key: bytes, vector: Vector) -> bytes | None:
    """The bytes of `vector` under `key`; None for values that are not cached: non-finite numbers, other types."""
    if not is_finite(vector):
        return None
    body = _sparse(vector) if isinstance(vector, SparseVector) else _array(vector)
    return _SUM.pack(zlib.crc32(body, zlib.crc32(key))) + body if body is not None else None


def unpack(key: bytes, packed: object) -> Vector | None:
    """The vector, writable; None when the bytes are missing, damaged, or belong to another key."""
    if not isinstance(packed, bytes):
        return None
    body = packed[_SUM.size :]
    if len(body) < _HEAD.size or _SUM.unpack_from(packed)[0] != zlib.crc32(body, zlib.crc32(key)):
        return None
    form, dimension = _HEAD.unpack_from(body)
    if form == b"s":
        count = (len(body) - _HEAD.size) // (_INDEX.itemsize + _FLOAT.itemsize)
        indices = np.frombuffer(body, _INDEX, count, _HEAD.size).astype(np.uint32)
        values = np.frombuffer(body, _FLOAT, count, _HEAD.size + count * _INDEX.itemsize)
        return SparseVector(indices, values.astype(np.float32))
    numbers = np.frombuffer(body, _FLOAT, -1, _HEAD.size).astype(np.float32)
    return numbers.reshape(-1, dimension) if form == b"m" else numbers


def _sparse(vector: SparseVector) -> bytes | None:
    if vector.indices.dtype != np.uint32 or vector.values.dtype != np.float32:
        return None
    indices, values = vector.indices.astype(_INDEX, copy=False), vector.values.astype(_FLOAT, copy=False)
    return _HEAD.pack(b"s", 0) + indices.tobytes() + values.tobytes()


def _array(vector: Floats) -> bytes | None:
    if vector.dtype != np.float32 or vector.ndim not in (1, 2) or not vector.size:
        return None
    head = _HEAD.pack(b"d", 0) if vector.ndim == 1 else _HEAD.pack(b"m", vector.shape[1])
    return head + vector.astype(_FLOAT, copy=False).tobytes()
