"""Resolves the vectors of a query, given by value or by the id of a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.convert.points import refuse_inference
from qdrant_edge_client.convert.vector_flaws import FINITE, UNIQUE, flaw_of_dense, flaw_of_sparse
from qdrant_edge_client.errors import SearchError


class Examples:
    """Turns a query's examples into Edge's vectors and remembers the points it mentions.

    Args:
        find: the vector of a point of the collection that is looked into.
        same_collection: whether that is the searched collection; if so, answers leave out the points mentioned.
    """

    def __init__(self, find: Callable[[models.ExtendedPointId], Any], *, same_collection: bool) -> None:
        self._find, self._same_collection = find, same_collection
        self.mentioned: list[models.ExtendedPointId] = []

    def vector(self, example: Any) -> Any:
        """Edge's form of a vector, or of the vector of the point with this id.

        Raises:
            SearchError: it is neither, or its numbers are none that can be compared.
        """
        if isinstance(example, int | str | UUID):
            if self._same_collection:
                self.mentioned.append(example)
            return self._find(example)
        if isinstance(example, list | np.ndarray):
            return _require_comparable(example, flaw_of_dense(example))
        if hasattr(example, "indices"):
            _require_comparable(example, flaw_of_sparse(example.indices, example.values))
            return (
                example
                if isinstance(example, edge.SparseVector)
                else edge.SparseVector(example.indices, example.values)
            )
        refuse_inference(example)
        raise SearchError("not a query", got=type(example).__name__, expected="a vector, a point id or a query model")

    def average(self, positive: list[Any], negative: list[Any]) -> Any:
        """The target of `average_vector`: the mean of the positives plus its difference to that of the negatives."""
        if not positive:
            raise SearchError(
                "a recommendation has no vectors to average", got="no positive examples", expected="at least one"
            )
        if isinstance(positive[0], edge.SparseVector):
            return _average_sparse(positive, negative)
        if np.ndim(positive[0]) == 2:
            return np.concatenate([*map(np.asarray, positive), *(-np.asarray(item) for item in negative)])
        mean = np.mean(positive, axis=0)
        return mean + mean - np.mean(negative, axis=0) if negative else mean


def _require_comparable(vector: Any, flaw: str) -> Any:
    if flaw:
        raise SearchError("a query's vector cannot be compared", got=flaw, expected=f"{FINITE}; if sparse, {UNIQUE}")
    return vector


def _average_sparse(positive: list[Any], negative: list[Any]) -> Any:
    weights: dict[int, float] = {}
    for vectors, factor in ((positive, 2.0 if negative else 1.0), (negative, -1.0)):
        for vector in vectors:
            for index, value in zip(vector.indices, vector.values, strict=True):
                weights[index] = weights.get(index, 0.0) + factor * value / len(vectors)
    return edge.SparseVector(list(weights), list(weights.values()))
