"""`Pool`: the documents of a query to judge, and an upper bound of the runs' difference on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import EvaluationError
from diptych.evaluate.metric_names import cutoff, parse_metrics
from diptych.evaluate.ranking_order import ordered
from diptych.types import Query, Run


@dataclass(frozen=True, slots=True)
class Pool:
    """The first ranks of all runs for one query.

    Args:
        documents: each once, in random order; none if all runs have the same documents in the same order.
        bound: the largest possible difference from the baseline by the metric, whatever the grades are.
    """

    documents: tuple[str, ...]
    bound: float

    @classmethod
    def of(cls, query: Query, baseline: str, runs: Sequence[Run], metric: str, seed: int) -> Pool:
        """The pool of `query` as deep as the cutoff of `metric`.

        Raises:
            EvaluationError: the metric has no cutoff or is unknown, or a run lacks the query.
        """
        depth = _depth(metric)
        rankings = {run.name: _first(run, query, depth) for run in runs}
        base = rankings[baseline]
        if all(ranking == base for ranking in rankings.values()):
            return cls((), 0.0)
        documents = sorted({document for ranking in rankings.values() for document in ranking})
        random.Random(f"{seed} {query.id}").shuffle(documents)
        is_ndcg = metric.startswith("nDCG@")
        return cls(tuple(documents), max(_most(base, ranking) for ranking in rankings.values()) if is_ndcg else 1.0)


def _most(one: Sequence[str], other: Sequence[str]) -> float:
    """The largest possible difference of two rankings by nDCG.

    nDCG is a ratio of sums over gains, and the ideal ranking sorts them. So for some k the extreme has equal gains for
    the k documents whose discounts differ most, and none for all others.
    """
    depth = max(len(one), len(other))
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    places = [dict(zip(ranking, discounts, strict=False)) for ranking in (one, other)]
    gaps = np.array([places[0].get(name, 0.0) - places[1].get(name, 0.0) for name in {**places[0], **places[1]}])
    ideal = np.cumsum(discounts)
    largest = (np.sort(signed)[::-1][:depth] for signed in (gaps, -gaps))
    return min(1.0, max(float((np.cumsum(extreme) / ideal[: len(extreme)]).max()) for extreme in largest))


def _first(run: Run, query: Query, depth: int) -> list[str]:
    if query.id not in run.rankings:
        raise EvaluationError(
            f"run {run.name!r} has no answer to query {query.id!r}", expected="an answer, which may be empty"
        )
    return ordered(run.rankings[query.id], where=f"run {run.name!r}, query {query.id!r}")[:depth]


def _depth(metric: str) -> int:
    parse_metrics([metric])
    depth = cutoff(metric)
    if not depth:
        expected = "a measure with a cutoff, such as nDCG@10, which is how deep runs are judged"
        raise EvaluationError(f"{metric} reads all ranks", expected=expected)
    return depth
