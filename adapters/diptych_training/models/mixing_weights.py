"""Finds the best weight of two heads on a dev set, without encoding anything twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.floating[Any]]
GRID = tuple(round(0.05 * step, 2) for step in range(21))


class Mix(NamedTuple):
    """A weight of head A and its score."""

    mix: float
    ndcg: float


def best_mix(
    scores_a: Scores,
    scores_b: Scores,
    gains: Scores,
    *,
    grid: Sequence[float] = GRID,
    k: int = 10,
) -> tuple[Mix, Mapping[float, float]]:
    """The weight of head A with the highest nDCG@k, the one nearest to 1/2 of equals, and the curve.

    Args:
        scores_a, scores_b: of each head, float `[queries, documents]`.
        gains: grades of the documents, `[queries, documents]`, 0 for what is not relevant.
        grid: weights to try.
        k: the cut-off.
    """
    curve = {a: float(ndcg(a * scores_a + (1 - a) * scores_b, gains, k=k).mean()) for a in grid}
    best = max(curve, key=lambda a: (round(curve[a], 12), -abs(a - 0.5)))
    return Mix(best, curve[best]), curve


def ndcg(scores: Scores, gains: Scores, *, k: int = 10) -> NDArray[np.float64]:
    """nDCG@k `[queries]` with linear gains; 0 for a query without relevant documents.

    Järvelin, Kekäläinen: "Cumulated Gain-based Evaluation of IR Techniques", TOIS 2002.

    Args:
        scores, gains: `[queries, documents]`.
    """
    depth = min(k, scores.shape[1])
    discounts = 1 / np.log2(np.arange(depth) + 2)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    gained = (np.take_along_axis(gains, best, 1) * discounts).sum(1)
    ideal = (-np.sort(-gains, axis=1)[:, :depth] * discounts).sum(1)
    return np.asarray(np.divide(gained, ideal, out=np.zeros(len(scores)), where=ideal > 0), np.float64)
