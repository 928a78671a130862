"""Reads points from one store, writes them to another, and compares them by digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.metadata.media_payloads import letters_in
from diptych.stores.scroll import plain_id

REQUEST = 1_000_000  # numbers of vectors in one request: about 20 MB of JSON, where a server takes 32
_LETTERS = 20  # of a payload's media that take as much room as a number


class Digest:
    """A digest of a set of points, in whatever order they come: payloads, and vectors as float32."""

    def __init__(self) -> None:
        self._sum, self._count = 0, 0

    def add(self, record: models.Record) -> None:
        """Take in one point."""
        self._sum = (self._sum + int.from_bytes(hash_of_point(record), "big")) % 2**128
        self._count += 1

    def __str__(self) -> str:
        return f"{self._count}:{self._sum:032x}"


def hash_of_point(record: models.Record) -> bytes:
    """A hash of the id, the payload, and the vectors as float32."""
    digest = hashlib.blake2b(hash_of_payload(record), digest_size=16)
    for name, vector in sorted(vectors_of(record).items()):
        digest.update(name.encode())
        for part in arrays(vector):
            digest.update(part.tobytes())
    return digest.digest()


def hash_of_payload(record: models.Record) -> bytes:
    """A hash of the id and the payload."""
    content = json.dumps([plain_id(record.id), record.payload or {}], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def struct(record: models.Record) -> models.PointStruct:
    """The point to write for a point that was read; its values are not validated again."""
    vector: Any = record.vector if record.vector is not None else {}
    return models.PointStruct.model_construct(id=record.id, vector=vector, payload=record.payload)


def vectors_of(record: models.Record) -> Mapping[str, Any]:
    """The point's vectors by name; the unnamed one is called ""."""
    vectors: Any = record.vector
    if vectors is None:
        return {}
    return vectors if isinstance(vectors, Mapping) else {"": vectors}


def arrays(vector: Any) -> tuple[NDArray[Any], ...]:
    """A dense vector or multi-vector as one float32 array; a sparse one as indices, ascending, and their values."""
    if not isinstance(vector, models.SparseVector):
        return (np.asarray(vector, np.float32),)
    indices = np.asarray(vector.indices, np.uint32)
    order = np.argsort(indices)
    return indices[order], np.asarray(vector.values, np.float32)[order]


def pieces(points: Sequence[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
    """The points in lists of at most `REQUEST` numbers, or media of that size, each of at least one point."""
    piece: list[models.PointStruct] = []
    numbers = 0
    for point in points:
        size = sum(map(_numbers, _values(point.vector))) + letters_in(point.payload) // _LETTERS
        if piece and numbers + size > REQUEST:
            yield piece
            piece, numbers = [], 0
        piece.append(point)
        numbers += size
    if piece:
        yield piece


def _values(vector: Any) -> Iterable[Any]:
    return vector.values() if isinstance(vector, Mapping) else (vector,)


def _numbers(vector: Any) -> int:
    if isinstance(vector, models.SparseVector):
        return 2 * len(vector.indices)
    return sum(map(len, vector)) if vector and isinstance(vector[0], list) else len(vector)
