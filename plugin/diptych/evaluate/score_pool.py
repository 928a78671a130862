"""Measures whether scores are comparable across queries, so that one threshold works: pooled AUC and F1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import EvaluationError
from diptych.evaluate.qrels import Qrels
from diptych.types import Run

POOLED = 500  # non-relevant documents of a query, as in the Mann-Whitney loss's evaluation


@dataclass(frozen=True, slots=True)
class Threshold:
    """The outcome when everything scored at least `score` is returned, over all queries together."""

    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class ScorePool:
    """The scores of all queries' relevant documents, and of each query's best non-relevant ones, in one pool.

    After Mann-Whitney losses for dense retrieval, whose measure is this pool's AUC.

    Args:
        name: the run's name.
        scores: float64 `[n]`.
        relevant: bool `[n]`.
        missing: relevant documents that the run does not return; they count as scored below everything.
    """

    name: str
    scores: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    missing: int = 0

    @classmethod
    def of(cls, run: Run, qrels: Qrels, *, depth: int = POOLED) -> ScorePool:
        """From a run that is to be at least `depth` deep. Documents without a judgement are not relevant.

        Raises:
            EvaluationError: the pool has no relevant or no other document, or a score is not finite.
        """
        rows = [row for query in qrels.queries for row in _of_query(run, qrels, query, depth)]
        scores, relevant = np.array([s for s, _ in rows], np.float64), np.array([r for _, r in rows], bool)
        missing = sum(len(qrels.relevant(query)) for query in qrels.queries) - int(relevant.sum())
        if not relevant.any() or relevant.all() or not np.isfinite(scores).all():
            raise EvaluationError(
                f"the scores of run {run.name!r} make no pool",
                got=f"{int(relevant.sum())} relevant documents of {len(relevant)}",
                expected="finite scores of relevant and of other documents, of the queries that the qrels judge",
            )
        return cls(run.name, scores, relevant, missing)

    @property
    def auc(self) -> float:
        """The probability that a relevant document scores above another one, of whatever queries; a tie is half."""
        _, places, counts = np.unique(self.scores, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks = (ends - (counts - 1) / 2)[places]
        found, others = int(self.relevant.sum()), int((~self.relevant).sum())
        above = float(ranks[self.relevant].sum()) - found * (found + 1) / 2
        return above / (others * (found + self.missing))

    def at(self, score: float) -> Threshold:
        """Precision, recall and F1 when everything scored at least `score` is returned."""
        returned = self.scores >= score
        return _threshold(score, int(returned.sum()), int(self.relevant[returned].sum()), self._all)

    @property
    def best(self) -> Threshold:
        """The threshold with the greatest F1, the highest among equals; chosen on the same data, so optimistic."""
        order = np.argsort(-self.scores, kind="stable")
        scores, hits = self.scores[order], np.cumsum(self.relevant[order])
        ends = np.flatnonzero(np.append(np.diff(scores) < 0, True))
        values = 2 * hits[ends] / (ends + 1 + self._all)
        end = int(ends[int(np.argmax(values))])
        return _threshold(float(scores[end]), end + 1, int(hits[end]), self._all)

    @property
    def _all(self) -> int:
        return int(self.relevant.sum()) + self.missing


def _of_query(run: Run, qrels: Qrels, query: str, depth: int) -> Iterator[tuple[float, bool]]:
    """Scores of the relevant documents of a query, and of the `depth` best others."""
    relevant, others = qrels.relevant(query), []
    for name, score in run.rankings.get(query, ()):
        if name in relevant:
            yield score, True
        else:
            others.append(score)
    yield from ((score, False) for score in sorted(others, reverse=True)[:depth])


def _threshold(score: float, returned: int, hits: int, relevant: int) -> Threshold:
    precision = hits / returned if returned else 0.0
    return Threshold(score, 2 * hits / (returned + relevant), precision, hits / relevant)
