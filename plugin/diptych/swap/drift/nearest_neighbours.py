"""Exact nearest neighbours by brute force, and how much two answers share."""

from __future__ import annotations

import numpy as np

from diptych.protocols import Similarity
from diptych.slots.drift_maps import unit
from diptych.swap.drift.pairs import Rows
from diptych.types import Floats

_BLOCK = 256


def nearest(
    queries: Floats, documents: Floats, k: int, *, similarity: Similarity, but: Rows | None = None
) -> tuple[Rows, Floats]:
    """Rows of the `k` nearest documents of each query, best first, and their scores (higher is nearer): `[n, k]`.

    Args:
        queries, documents: float32 `[n, d]` and `[m, d]`.
        k: at most m are given.
        similarity: what nearness is; lengths do not matter for cosine.
        but: for each query the row of a document that is left out, such as the query itself; then at most m - 1.
    """
    k = min(k, len(documents) - (but is not None))
    if similarity == "cosine":
        queries, documents = unit(queries), unit(documents)
    found = np.zeros((len(queries), k), np.intp)
    values = np.zeros((len(queries), k), np.float32)
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = _scores(queries[block], documents, similarity)
        if but is not None:
            scores[np.arange(len(scores)), but[block]] = -np.inf
        rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
        found[block] = np.take_along_axis(rows, order, axis=1)
        values[block] = np.take_along_axis(scores, found[block], axis=1)
    return found, values


def shared(one: Rows, other: Rows) -> Floats:
    """For each query the share of the rows that both answers hold: float32 `[n]`."""
    both = [len(np.intersect1d(a, b)) for a, b in zip(one, other, strict=True)]
    return np.asarray(both, np.float32) / np.float32(one.shape[1])


def _scores(queries: Floats, documents: Floats, similarity: Similarity) -> Floats:
    products = queries @ documents.T
    return products if similarity != "euclidean" else 2 * products - np.square(documents).sum(axis=1)
