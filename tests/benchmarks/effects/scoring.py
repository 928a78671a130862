"""Measures of whole score matrices `[queries, documents]` with relevance `[queries, documents]`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from effects.world import Mask

Doubles = NDArray[np.float64]


def ndcg(scores: Doubles, relevant: Mask, k: int = 10) -> Doubles:
    """nDCG@k of each query `[queries]`."""
    gains = relevant_at(scores, relevant, k) / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(relevant.sum(1), k) - 1]
    return np.asarray(gains.sum(1) / ideal)


def recall(scores: Doubles, relevant: Mask, k: int) -> Doubles:
    """Recall@k of each query `[queries]`."""
    return np.asarray(relevant_at(scores, relevant, k).sum(1) / relevant.sum(1))


def precision(scores: Doubles, relevant: Mask, k: int) -> Doubles:
    """P@k of each query `[queries]`."""
    return np.asarray(relevant_at(scores, relevant, k).mean(1))


def recall_at_own(scores: Doubles, relevant: Mask) -> Doubles:
    """Recall of each query at its own number of relevant documents `[queries]`."""
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return np.asarray((relevant & (ranks < relevant.sum(1)[:, None])).sum(1) / relevant.sum(1))


def pooled_auc(scores: Doubles, relevant: Mask, hardest: int = 500) -> float:
    """Area under the curve of all relevant scores pooled beside each query's `hardest` best others."""
    high, low = pooled(scores, relevant, hardest)
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def best_f1(scores: Doubles, relevant: Mask) -> float:
    """F1 over all pairs at the one threshold for all queries that makes it greatest."""
    order = np.argsort(-scores, axis=None)
    hits = np.cumsum(relevant.reshape(-1)[order])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + relevant.sum())).max())


def pooled(scores: Doubles, relevant: Mask, hardest: int) -> tuple[Doubles, Doubles]:
    """Scores of what is relevant, and of each query's best others."""
    others = -np.sort(-np.where(relevant, -np.inf, scores), axis=1)[:, :hardest]
    return scores[relevant], others[np.isfinite(others)]


def kendall(found: Doubles, wanted: Doubles) -> Doubles:
    """Kendall's tau of the two orders of each row `[rows]`."""
    return np.array([float(kendalltau(a, b).statistic) for a, b in zip(found, wanted, strict=True)])


def relevant_at(scores: Doubles, relevant: Mask, k: int) -> Mask:
    """Whether each of the k best is relevant, bool `[queries, k]`, best first."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(relevant, best, axis=1)
