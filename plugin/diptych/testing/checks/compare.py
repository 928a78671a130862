"""Vectors of every kind in the form that the checks compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import brief
from diptych.testing.checks.conditions import Conditions, ConformanceFailure, Side
from diptych.types import SparseVector

SIDES: tuple[Side, Side] = ("query", "document")


def call(encoder: Any, side: Side, inputs: Sequence[Any]) -> Any:
    """The result of `encode_query` or `encode_document`.

    Raises:
        ConformanceFailure: it raised.
    """
    try:
        return getattr(encoder, f"encode_{side}")(list(inputs))
    except Exception as error:
        raise ConformanceFailure(
            f"encode_{side} raised",
            where=f"{len(inputs)} inputs, the first {brief(next(iter(inputs), ''), 40)}",
            got=f"{type(error).__name__}: {error}",
            expected="vectors",
        ) from error


def vectors(encoder: Any, side: Side, inputs: Sequence[Any]) -> list[Any]:
    """One vector per input: dense `[dimension]`, multi-vector `[tokens, dimension]`, or a SparseVector.

    Raises:
        ConformanceFailure: encoding raised, or gave another number of vectors.
    """
    raw = call(encoder, side, inputs)
    count = len(raw) if hasattr(raw, "__len__") else type(raw).__name__
    if count != len(inputs):
        raise ConformanceFailure(
            f"encode_{side} lost or added vectors", got=count, expected=f"{len(inputs)}, one per input"
        )
    return list(raw)


def numbers(vector: Any) -> NDArray[Any]:
    """The numbers of a vector of any kind, as an array."""
    return np.asarray(vector.values if isinstance(vector, SparseVector) else vector)


def gap(one: Any, other: Any) -> float:
    """The largest difference of two vectors as a share of the largest number; infinity when their shapes differ."""
    if isinstance(one, SparseVector) and isinstance(other, SparseVector):
        one, other = _aligned(one, other)
    one, other = numbers(one), numbers(other)
    if one.shape != other.shape:
        return float("inf")
    scale = max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0.0)))
    return float(np.abs(one - other).max(initial=0.0)) / scale if scale else 0.0


def score(encoder: Any, conditions: Conditions, query: Any, document: Any) -> float:
    """How near query and document vector are by kind and declared similarity; higher is nearer."""
    if conditions.kind == "sparse":
        one, other = _aligned(query, document)
        return float(one @ other)
    if conditions.kind == "multivector":
        return float((_unit(query) @ _unit(document).T).max(axis=1).sum())
    if encoder.similarity == "euclidean":
        return -float(np.linalg.norm(query - document))
    if encoder.similarity == "cosine":
        query, document = _unit(query), _unit(document)
    return float(query @ document)


def _aligned(one: SparseVector, other: SparseVector) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as dense arrays over the union of their terms; equal terms of one vector are summed."""
    terms = np.union1d(one.indices, other.indices)
    result = np.zeros((2, len(terms)))
    for row, vector in zip(result, (one, other), strict=True):
        np.add.at(row, np.searchsorted(terms, vector.indices), vector.values)
    return result[0], result[1]


def _unit(vector: NDArray[Any]) -> NDArray[Any]:
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    result: NDArray[Any] = vector / np.where(length, length, 1)
    return result
