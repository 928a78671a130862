"""Pooled AUC, and F1 at one threshold, each against a second way to compute it."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.evaluate import Qrels, ScorePool
from diptych.types import Run

Scored = dict[str, list[tuple[str, float]]]


def drawn(seed: int, *, queries: int = 12, documents: int = 60) -> tuple[Run, Qrels]:
    """Scores in quarters, so that many tie; the relevant ones are a little higher."""
    random = np.random.default_rng(seed)
    rankings: Scored = {}
    judgements = {}
    for query in range(queries):
        relevant = {f"d{n}" for n in random.choice(documents, 4, replace=False)}
        names = [f"d{n}" for n in range(documents)]
        scores = {name: round(float(random.normal(name in relevant, 1.0)) * 4) / 4 for name in names}
        rankings[f"q{query}"] = sorted(scores.items(), key=lambda pair: -pair[1])
        judgements[f"q{query}"] = dict.fromkeys(relevant, 1) | {"never": 0}
    return Run("drawn", rankings), Qrels(judgements)


def by_hand(run: Run, qrels: Qrels, depth: int) -> tuple[list[float], list[float]]:
    """The pool, written down again: scores of relevant and of other documents."""
    found, others = [], []
    for query in qrels.queries:
        scores = run.rankings[query]
        found += [score for name, score in scores if name in qrels.relevant(query)]
        others += sorted((s for name, s in scores if name not in qrels.relevant(query)), reverse=True)[:depth]
    return found, others


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [3, 500])
def test_pooled_auc_is_the_share_of_pairs_in_order_and_scikit_learns(seed: int, depth: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    run, qrels = drawn(seed)
    found, others = by_hand(run, qrels, depth)
    pairs = [float(a > b) + 0.5 * (a == b) for a in found for b in others]
    value = ScorePool.of(run, qrels, depth=depth).auc
    assert value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert value == pytest.approx(metrics.roc_auc_score([1] * len(found) + [0] * len(others), found + others))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_one_that_trying_all_finds(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    run, qrels = drawn(seed)
    pool = ScorePool.of(run, qrels)
    tried = {score: pool.at(score).f1 for score in set(pool.scores.tolist())}
    best = pool.best
    assert best.f1 == pytest.approx(max(tried.values()))
    assert best.score == max(score for score, f1 in tried.items() if f1 == max(tried.values()))
    returned = pool.scores >= best.score
    assert best.f1 == pytest.approx(metrics.f1_score(pool.relevant, returned))
    assert best.precision == pytest.approx(metrics.precision_score(pool.relevant, returned))
    assert best.recall == pytest.approx(metrics.recall_score(pool.relevant, returned))
    assert pool.at(best.score) == best


def test_a_shift_of_each_query_leaves_its_order_and_spoils_the_pool() -> None:
    run, qrels = drawn(1)
    moved = {q: [(d, s + 5 * n) for d, s in own] for n, (q, own) in enumerate(run.rankings.items())}
    assert ScorePool.of(Run("moved", moved), qrels).auc < ScorePool.of(run, qrels).auc - 0.1


def test_a_relevant_document_that_is_not_returned_counts_as_scored_below_everything() -> None:
    qrels = Qrels({"q": {"a": 1, "b": 1}})
    pool = ScorePool.of(Run("r", {"q": [("a", 2.0), ("c", 1.0)]}), qrels)
    assert (pool.missing, pool.auc) == (1, 0.5)
    assert pool.best.f1 == pytest.approx(2 / 3)
    assert (pool.best.precision, pool.best.recall) == (1.0, 0.5)


def test_equal_scores_make_an_auc_of_one_half() -> None:
    pool = ScorePool.of(Run("r", {"q": [("a", 1.0), ("b", 1.0)]}), Qrels({"q": {"a": 1}}))
    assert pool.auc == 0.5
