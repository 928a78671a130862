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
        own: whether that is the searched collection, whose mentioned points an answer leaves out.
    """

    def __init__(self, find: Callable[[models.ExtendedPointId], Any], *, own: bool) -> None:
        self._find, self._own = find, own
        self.mentioned: list[models.ExtendedPointId] = []

    def vector(self, found: Any) -> Any:
        """Edge's form of a vector, or of the vector of the point with this id.

        Raises:
            SearchError: it is neither, or its numbers are none that can be compared.
        """
        if isinstance(found, int | str | UUID):
            if self._own:
                self.mentioned.append(found)
            return self._find(found)
        if isinstance(found, list | np.ndarray):
            return _sound(found, flaw_of_dense(found))
        if hasattr(found, "indices"):
            _sound(found, flaw_of_sparse(found.indices, found.values))
            return found if isinstance(found, edge.SparseVector) else edge.SparseVector(found.indices, found.values)
        refuse_inference(found)
        raise SearchError("not a query", got=type(found).__name__, expected="a vector, a point id or a query model")

    def average(self, positive: list[Any], negative: list[Any]) -> Any:
        """The target of `average_vector`: the mean of the positives plus its difference to that of the negatives."""
        if not positive:
            raise SearchError(
                "nothing to average in a recommendation", got="no positive examples", expected="at least one"
            )
        if isinstance(positive[0], edge.SparseVector):
            return _average_sparse(positive, negative)
        if np.ndim(positive[0]) == 2:
            return np.concatenate([*map(np.asarray, positive), *(-np.asarray(item) for item in negative)])
        mean = np.mean(positive, axis=0)
        return mean + mean - np.mean(negative, axis=0) if negative else mean


def _sound(found: Any, flaw: str) -> Any:
    if flaw:
        raise SearchError("a query's vector cannot be compared", got=flaw, expected=f"{FINITE}; if sparse, {UNIQUE}")
    return found


def _average_sparse(positive: list[Any], negative: list[Any]) -> Any:
    weights: dict[int, float] = {}
    for vectors, factor in ((positive, 2.0 if negative else 1.0), (negative, -1.0)):
        for found in vectors:
            for index, value in zip(found.indices, found.values, strict=True):
                weights[index] = weights.get(index, 0.0) + factor * value / len(vectors)
    return edge.SparseVector(list(weights), list(weights.values()))
