"""p-MRR against its definition, written down again."""

from __future__ import annotations

import random

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, p_mrr, p_mrr_per_query
from diptych.types import Run

NAMES = [f"d{n}" for n in range(8)]


def ranked(name: str, *documents: str) -> Run:
    return Run(name, {"q": [(document, -float(rank)) for rank, document in enumerate(documents)]})


def of(before: Run, after: Run) -> float:
    """Of one document `a` that the changed instruction makes irrelevant; `b` stays relevant."""
    return p_mrr(before, after, Qrels({"q": {"a": 1, "b": 1}}), Qrels({"q": {"a": 0, "b": 1}}))


def test_falling_is_good_rising_is_bad_and_staying_is_nothing() -> None:
    assert of(ranked("x", "a", "b", "c", "d"), ranked("y", "b", "c", "d", "a")) == 1 - 1 / 4
    assert of(ranked("x", "b", "c", "d", "a"), ranked("y", "a", "b", "c", "d")) == 1 / 4 - 1
    assert of(ranked("x", "a", "b"), ranked("y", "a", "b")) == 0


def test_an_exchange_of_the_two_runs_changes_the_sign() -> None:
    shuffle = random.Random(0)
    for _ in range(20):
        one, other = (ranked("r", *shuffle.sample(["a", "b", "c", "d", "e"], 5)) for _ in range(2))
        assert of(one, other) == pytest.approx(-of(other, one))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_mean_over_queries_of_the_mean_over_their_documents(seed: int) -> None:
    shuffle = random.Random(seed)
    queries = [f"q{n}" for n in range(6)]
    before, after = (
        Run(name, {q: [(d, -float(r)) for r, d in enumerate(shuffle.sample(NAMES, 8))] for q in queries})
        for name in ("before", "after")
    )
    first = Qrels({q: dict.fromkeys(shuffle.sample(NAMES, 4), 2) for q in queries})
    second = Qrels({q: {d: shuffle.choice((0, 1)) for d in own} for q, own in first.judgements.items()})
    expected = []
    for query in queries:
        changes = []
        for document, grade in second.judgements[query].items():
            mrr, again = (1 / (1 + [d for d, _ in run.rankings[query]].index(document)) for run in (before, after))
            changes += [_followir(mrr, again)] * (grade == 0)
        expected += [sum(changes) / len(changes)] if changes else []
    assert p_mrr(before, after, first, second) == pytest.approx(sum(expected) / len(expected))
    assert list(p_mrr_per_query(before, after, first, second).values()) == pytest.approx(expected)


def _followir(before: float, after: float) -> float:
    """The formula over reciprocal ranks, as it is published."""
    return before / after - 1 if before < after else 1 - after / before


def test_a_document_beyond_the_ranking_has_the_rank_after_its_last() -> None:
    assert of(ranked("x", "a", "b"), ranked("y", "b", "c")) == 1 - 1 / 3
    assert of(ranked("x", "b", "c"), ranked("y", "c", "b")) == 0


def test_what_cannot_be_measured_is_said() -> None:
    judged, run = Qrels({"q": {"a": 1}}), ranked("r", "a", "b")
    with pytest.raises(EvaluationError, match=r"makes no document irrelevant\n  got: 1 queries"):
        p_mrr(run, run, judged, judged)
    with pytest.raises(EvaluationError, match=r"(?s)run 'none' has no answer.*1 such queries, the first 'q'"):
        p_mrr(run, Run("none", {"q": []}), judged, Qrels({"q": {"a": 0}}))
