"""Recall of approximate search: how much of the exact answer the graph search finds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diptych.errors import EvaluationError
from diptych.evaluate.rankings import Ranking, ordered
from diptych.types import Run

_TOLERANCE = 1e-5  # relative: one float32 dot product summed in another order


def ann_recall(approximate: Run, exact: Run, k: int) -> float:
    """Mean over the queries of `exact` of the share of the exact top `k` that `approximate` found in its own top `k`.

    A document that scores the same as the k-th exact one counts as right, as in ANN-Benchmarks (Aumüller, Bernhardsson
    and Faithfull, "ANN-Benchmarks", Information Systems 2020). Make `exact` with `SearchParams(exact=True)`.

    Raises:
        EvaluationError: `k` is below 1, or the two runs have different queries.
    """
    recalls = ann_recall_per_query(approximate, exact, k)
    return sum(recalls.values()) / len(recalls)


def ann_recall_per_query(approximate: Run, exact: Run, k: int) -> Mapping[str, float]:
    """`{query id: recall at k}`. A query whose exact answer is empty has recall 1: nothing was missed."""
    _check(approximate, exact, k)
    return {
        query: _recall(
            _checked(approximate.rankings[query], approximate.name, query), _checked(ranking, exact.name, query), k
        )
        for query, ranking in exact.rankings.items()
    }


def _recall(found: Ranking, exact: Ranking, k: int) -> float:
    top = exact[:k]
    if not top:
        return 1.0
    true_scores, worst = dict(exact), top[-1][1]
    best = {document for document, _ in top}
    right = sum(
        document in best or math.isclose(true_scores.get(document, score), worst, rel_tol=_TOLERANCE)
        for document, score in found[:k]
    )
    return min(right, len(top)) / len(top)


def _checked(ranking: Ranking, run: str, query: str) -> Ranking:
    """The ranking as it is, once it is known to hold no document twice and no NaN."""
    ordered(ranking, where=f"run {run!r}, query {query!r}")
    return ranking


def _check(approximate: Run, exact: Run, k: int) -> None:
    if k < 1:
        raise EvaluationError("recall needs a k of at least 1", got=k)
    lonely = approximate.rankings.keys() ^ exact.rankings.keys()
    if lonely or not exact.rankings:
        raise EvaluationError(
            f"runs {approximate.name!r} and {exact.name!r} do not answer the same queries",
            got=f"{len(lonely)} queries that only one has" if lonely else "no queries",
            do="search both with the same queries, each with its id",
        )
