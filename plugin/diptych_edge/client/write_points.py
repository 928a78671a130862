"""Writes, uploads, changes and deletes points. A write that has returned is in Edge's write-ahead log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import qdrant_edge as edge
from qdrant_client import models

from diptych.errors import CollectionError
from diptych_edge.client.base import EdgeBase, check_arguments, unsupported
from diptych_edge.convert.config import member
from diptych_edge.convert.points import edge_point_vectors, edge_points, jsonable
from diptych_edge.convert.queries import edge_filter
from diptych_edge.engine.collection import EdgeCollection
from diptych_edge.engine.native_errors import edge_errors

Operation = edge.UpdateOperation
_SIZE_SAMPLE = 8  # points of an operation whose size is estimated
_NUMBER = 6  # bytes of a number of a vector in the log
Selector: TypeAlias = Any  # list of ids, Filter, FilterSelector or PointIdsList


class WritePoints(EdgeBase):
    """The part of EdgeClient that writes points."""

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Write points, all or none; vectors may be numpy arrays (with `model_construct`).

        Raises:
            CollectionError: no points, or a vector or id that does not fit.
        """
        check_arguments("upsert", kwargs)
        collection = self._find(collection_name)
        build = partial(upsert_operation, collection, points, update_filter, update_mode)
        return self._write(collection, build, size=rough_size(points))

    def update_vectors(
        self,
        collection_name: str,
        points: Sequence[models.PointVectors],
        update_filter: models.Filter | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Replace the given vectors of existing points; their other vectors and payload stay."""
        check_arguments("update_vectors", kwargs)
        collection = self._find(collection_name)
        return self._write(
            collection, partial(_update_vectors, collection, points, update_filter), size=rough_size(points)
        )

    def delete_vectors(
        self, collection_name: str, vectors: Sequence[str], points: Selector, **kwargs: Any
    ) -> models.UpdateResult:
        """Remove named vectors from the selected points."""
        check_arguments("delete_vectors", kwargs)
        collection = self._find(collection_name)
        return self._write(collection, lambda: _delete_vectors(collection, vectors, points))

    def delete(self, collection_name: str, points_selector: Selector, **kwargs: Any) -> models.UpdateResult:
        """Delete the selected points."""
        check_arguments("delete", kwargs)
        return self._write(self._find(collection_name), lambda: _select("delete_points", points_selector))

    def set_payload(
        self, collection_name: str, payload: models.Payload, points: Selector, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        """Merge `payload` into that of the selected points, at `key` when given."""
        check_arguments("set_payload", kwargs)
        return self._write(self._find(collection_name), lambda: _select("set_payload", points, jsonable(payload), key))

    def overwrite_payload(
        self, collection_name: str, payload: models.Payload, points: Selector, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        """Replace the whole payload of the selected points."""
        check_arguments("overwrite_payload", kwargs)
        return self._write(
            self._find(collection_name), lambda: _select("overwrite_payload", points, jsonable(payload), key)
        )

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Selector, **kwargs: Any
    ) -> models.UpdateResult:
        """Remove keys from the payload of the selected points."""
        check_arguments("delete_payload", kwargs)
        return self._write(self._find(collection_name), lambda: _select("delete_payload", points, list(keys)))

    def clear_payload(self, collection_name: str, points_selector: Selector, **kwargs: Any) -> models.UpdateResult:
        """Remove the whole payload of the selected points."""
        check_arguments("clear_payload", kwargs)
        return self._write(self._find(collection_name), lambda: _select("clear_payload", points_selector))

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[models.UpdateOperation], **kwargs: Any
    ) -> list[models.UpdateResult]:
        """Apply several updates in order; all are checked before the first is applied."""
        check_arguments("batch_update_points", kwargs)
        collection = self._find(collection_name)
        with edge_errors(collection_name, reading=False):
            operations = [_operation(collection, operation) for operation in update_operations]
        return [self._write(collection, lambda built=operation: built) for operation in operations]  # type: ignore[misc]


def upsert_operation(
    collection: EdgeCollection,
    points: models.Batch | Sequence[models.PointStruct],
    update_filter: models.Filter | None,
    update_mode: models.UpdateMode | None,
) -> Any:
    """Edge's upsert operation, checked."""
    converted = edge_points(points, collection.space)
    return Operation.upsert_points(converted, edge_filter(update_filter), member(edge.UpdateMode, update_mode))


def rough_size(points: models.Batch | Sequence[Any]) -> int:
    """Estimate of the bytes that points take in the log, from some of them; rather too much than too little."""
    if isinstance(points, models.Batch):
        vectors, payloads, count = points.vectors, points.payloads, len(points.ids)
        return 2 * (_weight(vectors) + _length(payloads)) if count <= _SIZE_SAMPLE else count * (4 << 10)
    step = max(1, len(points) // _SIZE_SAMPLE)
    largest = max(
        (_weight(point.vector) + _length(getattr(point, "payload", None)) for point in points[::step]), default=0
    )
    return 2 * largest * len(points)


def _length(payload: Any) -> int:
    try:
        return len(str(payload or ""))
    except RecursionError:  # it is refused when it is converted
        return 0


def _weight(vector: Any) -> int:
    """Bytes of a vector, or of all vectors in a container."""
    if isinstance(vector, dict):
        return sum(map(_weight, vector.values()))
    if isinstance(vector, models.SparseVector):
        return 2 * _NUMBER * len(vector.indices)
    if hasattr(vector, "size"):
        return _NUMBER * int(vector.size)
    if isinstance(vector, list | tuple):
        return sum(map(_weight, vector)) if vector and not isinstance(vector[0], int | float) else _NUMBER * len(vector)
    return _NUMBER


def _update_vectors(
    collection: EdgeCollection, points: Sequence[models.PointVectors], update_filter: models.Filter | None
) -> Any:
    if not points:
        raise CollectionError("there are no vectors to write", do="leave out the call")
    return Operation.update_vectors(edge_point_vectors(points, collection.space), edge_filter(update_filter))


def _delete_vectors(collection: EdgeCollection, names: Sequence[str], points: Selector) -> Any:
    for name in names:
        collection.require_vector(name)
    return _select("delete_vectors", points, list(names))


def _select(action: str, selector: Selector, *rest: Any) -> Any:
    """Edge's operation on ids or on a filter, whichever `selector` is."""
    if getattr(selector, "shard_key", None) is not None:
        raise unsupported("shard keys", got=repr(selector.shard_key))
    if isinstance(selector, models.FilterSelector):
        selector = selector.filter
    if isinstance(selector, models.Filter):
        by_filter = getattr(Operation, f"{action}_by_filter")
        return by_filter(edge_filter(selector) or edge.Filter(), *rest)
    ids = selector.points if isinstance(selector, models.PointIdsList) else selector
    return getattr(Operation, action)(list(ids), *rest)


def _selector(body: Any) -> Selector:
    """The points selected by a batch operation."""
    if body.points is None and body.filter is None:
        raise CollectionError("an update selects no points", expected="`points` or `filter`")
    return body.points if body.points is not None else body.filter


def _operation(collection: EdgeCollection, update: Any) -> Any:
    for attribute, convert in _OPERATIONS.items():
        body = getattr(update, attribute, None)
        if body is not None:
            return convert(collection, body)
    raise CollectionError("not an update operation", got=type(update).__name__, expected=", ".join(_OPERATIONS))


_OPERATIONS: dict[str, Any] = {
    "upsert": lambda collection, body: upsert_operation(
        collection,
        body.batch if isinstance(body, models.PointsBatch) else body.points,
        body.update_filter,
        body.update_mode,
    ),
    "delete": lambda collection, body: _select("delete_points", body),
    "set_payload": lambda collection, b: _select("set_payload", _selector(b), jsonable(b.payload), b.key),
    "overwrite_payload": lambda collection, b: _select("overwrite_payload", _selector(b), jsonable(b.payload), b.key),
    "delete_payload": lambda collection, body: _select("delete_payload", _selector(body), list(body.keys)),
    "clear_payload": lambda collection, body: _select("clear_payload", body),
    "update_vectors": lambda collection, body: _update_vectors(collection, body.points, body.update_filter),
    "delete_vectors": lambda collection, body: _delete_vectors(collection, body.vector, _selector(body)),
}
