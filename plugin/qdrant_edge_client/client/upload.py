"""Uploads any number of points, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice, repeat
from typing import Any
from uuid import uuid4

import numpy as np
from qdrant_client import models

from qdrant_edge_client.client.base import EdgeBase
from qdrant_edge_client.client.unsupported import check_arguments
from qdrant_edge_client.client.write_points import rough_size, upsert_operation
from qdrant_edge_client.errors import CollectionError

PIECE = 1000  # points an operation: large enough for Edge's speed, small enough for its log


class Uploading(EdgeBase):
    """The part of EdgeClient that uploads streams of points."""

    def upload_points(
        self,
        collection_name: str,
        points: Iterable[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert any number of points; memory holds one piece of them."""
        check_arguments("upload_points", kwargs)
        collection = self._find(collection_name)
        for piece in pieces(points):
            build = partial(upsert_operation, collection, piece, update_filter, update_mode)
            self._write(collection, build, size=rough_size(piece))

    def upload_collection(
        self,
        collection_name: str,
        vectors: Any,
        payload: Iterable[dict[Any, Any]] | None = None,
        ids: Iterable[models.ExtendedPointId] | None = None,
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert vectors: an array `[n, dim]`, an array for each name, or an iterable; ids are UUIDs unless given."""
        check_arguments("upload_collection", kwargs)
        self.upload_points(collection_name, points_of(vectors, payload, ids), update_filter, update_mode)


def points_of(
    vectors: Any, payload: Iterable[dict[Any, Any]] | None, ids: Iterable[models.ExtendedPointId] | None
) -> Iterator[models.PointStruct]:
    """The points of a column batch; ids are UUIDs unless given."""
    names = iter(lambda: str(uuid4()), "")
    columns = (names if ids is None else ids, _rows(vectors), repeat(None) if payload is None else payload)
    for identifier, vector, content in zip(*columns, strict=False):
        yield models.PointStruct.model_construct(id=identifier, vector=vector, payload=content)


def pieces(points: Iterable[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
    """The points, at most `PIECE` at a time."""
    stream = iter(points)
    while piece := list(islice(stream, PIECE)):
        yield piece


def _rows(vectors: Any) -> Iterable[Any]:
    """Vectors point by point."""
    if not isinstance(vectors, Mapping):
        return vectors if isinstance(vectors, np.ndarray) else (_or_empty(vector) for vector in vectors)
    lengths = {name: len(column) for name, column in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise CollectionError("the named vectors differ in number", got=lengths, expected="one of each for each point")
    return (dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True))


def _or_empty(vector: Any) -> Any:
    return {} if vector is None else vector
