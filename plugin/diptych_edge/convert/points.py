"""Converts points and vectors for Edge, and says what is wrong with them.

Names, dimensions and numbers are checked here before anything is written: Edge keeps a refused operation in its log
and applies the good half of it at the next opening. Numpy arrays become lists, which Edge reads twice as fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import qdrant_edge as edge
from pydantic_core import to_jsonable_python
from qdrant_client import models

from diptych.errors import CollectionError, StoreUnsupported
from diptych_edge.engine.native_errors import reason

DEEPEST = 64  # levels of a payload: beyond 125 Edge writes to its log what it cannot read again, and all is lost
KEEPS = "JSON values: text, finite numbers, true and false, null, lists and objects"

FINITE = "finite numbers within the range of float32"
UNIQUE = "indices from 0 to 4294967295, each once"
_LARGEST = float(np.finfo(np.float32).max)

VectorKind: TypeAlias = Literal["dense", "multivector", "sparse"]
Space: TypeAlias = Mapping[str, tuple[VectorKind, int]]  # vectors of a collection by name; "" is the unnamed one


def edge_points(points: models.Batch | Sequence[models.PointStruct], space: Space) -> list[Any]:
    """Edge's points for a list of points or a batch.

    Raises:
        CollectionError: nothing to write, or a vector that does not fit the collection.
    """
    if isinstance(points, models.Batch):
        return _batch(points, space)
    if not points:
        raise CollectionError("there are no points to write", do="leave out the call")
    return [_point(point.id, vectors_in(point.vector, space, point.id), point.payload) for point in points]


def edge_point_vectors(points: Iterable[models.PointVectors], space: Space) -> list[Any]:
    """Edge's form of new vectors for existing points."""
    return [edge.PointVectors(point.id, vectors_in(point.vector, space, point.id)) for point in points]


def vectors_in(vectors: Any, space: Space, where: object) -> Any:
    """The vectors of one point, named or not, checked against the collection."""
    if isinstance(vectors, dict):
        return {name: vector_in(value, name, space, where) for name, value in vectors.items()}
    return vector_in(vectors, "", space, where)


def vector_in(vector: Any, name: str, space: Space, where: object) -> Any:
    """One vector in Edge's form.

    Raises:
        CollectionError: the collection has no such vector, or one of another kind or dimension; or its numbers are bad.
    """
    kind, size = space.get(name) or _unknown(name, space, where)
    if kind == "sparse":
        if not hasattr(vector, "indices"):
            raise misfit(name, where, _shape(vector), "a sparse vector: indices and values")
        if flaw := flaw_of_sparse(vector.indices, vector.values):
            raise misfit(name, where, flaw, f"as many values as indices; {UNIQUE}; {FINITE}")
        return vector if isinstance(vector, edge.SparseVector) else edge.SparseVector(vector.indices, vector.values)
    if kind == "dense" and _width(vector) != size:
        raise misfit(name, where, _shape(vector), f"a dense vector of {size} numbers")
    if kind == "multivector" and not _is_matrix(vector, size):
        raise misfit(name, where, _shape(vector), f"a multi-vector: rows of {size} numbers, at least one")
    if flaw := flaw_of_dense(vector):
        raise misfit(name, where, flaw, FINITE)
    return vector.tolist() if isinstance(vector, np.ndarray) else vector


def _batch(batch: models.Batch, space: Space) -> list[Any]:
    ids: Sequence[Any] = batch.ids
    payloads: Sequence[Any] = batch.payloads or [None] * len(ids)
    vectors: Any = batch.vectors
    columns = vectors if isinstance(vectors, dict) else {"": vectors}
    for name, column in {**columns, "payloads": payloads}.items():
        if len(column) != len(ids):
            raise CollectionError(
                "the columns of a batch differ in length", where=name or "vectors", got=len(column), expected=len(ids)
            )
    if not ids:
        raise CollectionError("there are no points to write", do="leave out the call")
    if isinstance(vectors, dict):
        rows: Iterable[Any] = (dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True))
    else:
        rows = vectors
    return [
        _point(identifier, vectors_in(row, space, identifier), payload)
        for identifier, row, payload in zip(ids, rows, payloads, strict=True)
    ]


def _point(identifier: Any, vector: Any, payload: Any) -> Any:
    if payload:
        require_json(payload, f"point {identifier}")
    try:
        return edge.Point(identifier, vector, payload)
    except TypeError:  # dates and the like in the payload; most payloads need no copy
        payload = jsonable(payload, f"point {identifier}")
    try:
        return edge.Point(identifier, vector, payload)
    except (TypeError, ValueError) as raw:
        if "NumId" in str(raw):
            raise CollectionError(
                "not a point id", got=repr(identifier), expected="an integer from 0, or a UUID"
            ) from raw
        what = "a point has a vector or payload that Qdrant cannot keep"
        raise CollectionError(what, where=f"point {identifier}", got=reason(raw)) from raw


def _width(vector: Any) -> int:
    """Length of a dense vector, -1 for a value that cannot be one."""
    if isinstance(vector, np.ndarray):
        return len(vector) if vector.ndim == 1 else -1
    return len(vector) if isinstance(vector, list) and not (vector and isinstance(vector[0], list)) else -1


def _is_matrix(matrix: Any, width: int) -> bool:
    """Whether this has at least one row, all of `width` numbers."""
    if isinstance(matrix, np.ndarray):
        return matrix.ndim == 2 and len(matrix) > 0 and matrix.shape[1] == width
    return isinstance(matrix, list) and bool(matrix) and all(_width(row) == width for row in matrix)


def _shape(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, list):
        return f"{len(value)} rows" if value and isinstance(value[0], list) else f"{len(value)} numbers"
    return type(value).__name__


def misfit(name: str, where: object, got: str, expected: str) -> CollectionError:
    """The error for a vector of point `where` that does not fit the collection."""
    return CollectionError(
        f"a vector does not fit {name or 'the unnamed vector'!r}", where=f"point {where}", got=got, expected=expected
    )


def _unknown(name: str, space: Space, where: object) -> tuple[VectorKind, int]:
    raise CollectionError(
        f"the collection has no vector {name!r}" if name else "the collection has no unnamed vector",
        where=f"point {where}",
        expected=", ".join(repr(known) for known in space) or "no vectors at all",
        do="name one of these, or add it with create_vector_name",
    )


def refuse_inference(value: Any) -> None:
    """Refuse what only a server with inference can turn into a vector."""
    if isinstance(value, models.Document | models.Image | models.InferenceObject):
        raise StoreUnsupported(
            "Qdrant Edge has no inference: it takes vectors, not what they are made of",
            got=type(value).__name__,
            do="encode it first, or use a server with inference: store: http(s)://...",
        )


# What is wrong with the numbers of a vector: Edge takes any. An infinite dot product then ranks first for ever, and a
# sparse index that is there twice counts twice.


def flaw_of_dense(vector: Any) -> str:
    """What is wrong with a dense vector, or with the rows of a multi-vector; Edge refuses other values itself."""
    try:
        if isinstance(vector, list) and vector and isinstance(vector[0], list | np.ndarray):
            return next((flaw for row in vector if (flaw := flaw_of_dense(row))), "")
        if _is_finite(vector):
            return ""
        flat = vector.ravel().tolist() if isinstance(vector, np.ndarray) else vector
        position, number = next((i, number) for i, number in enumerate(flat) if not abs(number) <= _LARGEST)
        return f"{number} at position {position}"
    except TypeError:
        return ""


def flaw_of_sparse(indices: Sequence[int], values: Any) -> str:
    """What is wrong with one sparse vector."""
    if len(indices) != len(values):
        return f"{len(indices)} indices, {len(values)} values"
    if len(set(indices)) != len(indices):
        return f"index {next(index for index, count in Counter(indices).items() if count > 1)} more than once"
    if len(indices) and not (min(indices) >= 0 and max(indices) < 2**32):
        return f"index {min(indices) if min(indices) < 0 else max(indices)}"
    return flaw_of_dense(values)


def _is_finite(vector: Any) -> bool:
    if not isinstance(vector, np.ndarray):
        return _length(vector) <= _LARGEST or all(abs(number) <= _LARGEST for number in vector)
    if vector.dtype.itemsize > np.float32().itemsize:  # what is too large for float32 becomes infinite in Edge
        return float(np.abs(vector).max(initial=0.0)) <= _LARGEST
    return bool(np.isfinite(vector).all())


def _length(numbers: Sequence[float]) -> float:
    """The Euclidean length: the fastest way to check that all numbers of a list are finite."""
    try:
        return math.hypot(*numbers)
    except OverflowError:  # an integer beyond all floats
        return math.inf


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
