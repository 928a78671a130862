"""Recall of approximate search: how much of the exact answer the graph search finds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diptych.errors import EvaluationError
from diptych.evaluate.ranking_order import Ranking, ordered
from diptych.types import Run

_TOLERANCE = 1e-5  # relative: one float32 dot product summed in another order


def ann_recall(approximate: Run, exact: Run, k: int) -> float:
    """Mean over the queries of `exact` of the share of the exact top `k` that `approximate` found in its own top `k`.

    A document that scores the same as the k-th exact one can stand in its place, as in ANN-Benchmarks (Aumüller,
    Bernhardsson and Faithfull, Information Systems 2020), but never in that of a better one. Make `exact` with
    `SearchParams(exact=True)`, a little deeper than `k` when the approximate scores are not the true ones, as with
    quantization without rescoring: a document's score is taken from `exact` where that has it.

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
    scores, last = dict(exact), top[-1][1]
    needed = {document for document, score in top if not _equal(score, last)}
    first = found[:k]
    hits = sum(document in needed for document, _ in first)
    ties = sum(document not in needed and _equal(scores.get(document, score), last) for document, score in first)
    return (hits + min(ties, len(top) - len(needed))) / len(top)


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-7)


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
