"""`compatibility`: do the new encoder's queries already do better on the old vectors than the old encoder's?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diptych.drift_maps import checked_rows
from diptych.errors import SwapError
from diptych.evaluate import Evaluation, Qrels, compare, evaluate
from diptych.evaluate.measures import cutoff
from diptych.protocols import Similarity
from diptych.swap.drift.neighbours import nearest
from diptych.types import Floats, Run

_DEPTH = 1000  # of a ranking when the metric has no cutoff


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Two query encoders on the same old vectors.

    Args:
        metric: what was measured.
        queries, documents: how many took part.
        old, new: means of the metric.
        difference: new minus old.
        low, high: paired bootstrap interval of the difference.
        confidence: of that interval.
    """

    metric: str
    queries: int
    documents: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    confidence: float

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    def not_worse(self, margin: float) -> bool:
        """Whether the interval excludes a loss of `margin` or more."""
        return self.low > -margin

    def __str__(self) -> str:
        verdict = "better" if self.better else "worse" if self.high < 0 else "no clear difference"
        return (
            f"{self.metric} on the old vectors, {self.queries} queries over {self.documents} documents: old encoder "
            f"{self.old:.3f}, new encoder {self.new:.3f}, difference {self.difference:+.3f} "
            f"[{self.low:+.3f}, {self.high:+.3f}]: {verdict}"
        )


def compatibility(
    documents: Any,
    old_queries: Any,
    new_queries: Any,
    qrels: Qrels,
    *,
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    similarity: Similarity = "cosine",
    metric: str = "nDCG@10",
    confidence: float = 0.95,
    seed: int = 0,
) -> Compatibility:
    """The old and the new encoder's queries on the old encoder's documents, compared query by query.

    Give `new_queries` as the new encoder makes them, or mapped. Where `documents` are a sample, only judgements of
    documents in it count, and only queries that have a relevant one.

    Args:
        documents: the old encoder's vectors, float32 `[m, d]`, or a sample of them.
        old_queries, new_queries: float32 `[n, d]`.
        qrels: judgements over `query_ids` and `document_ids`.
        similarity: what the old space compares by.

    Raises:
        SwapError: shapes that do not go together, numbers that are not finite, or fewer than 2 judged queries.
        EvaluationError: an unknown metric.
        MissingExtra: ir-measures or scipy is not installed.
    """
    vectors = _rows(documents, "the documents", document_ids, None)
    sides = [
        _rows(queries, f"the {name} encoder's queries", query_ids, vectors.shape[1])
        for name, queries in (("old", old_queries), ("new", new_queries))
    ]
    judged = _within(qrels, query_ids, document_ids)
    old, new = (
        _evaluated(name, side, vectors, judged, document_ids, query_ids, similarity, metric)
        for name, side in zip(("old", "new"), sides, strict=True)
    )
    found = compare([old, new], "old", metric, confidence=confidence, seed=seed).of("new")
    means = old.means[metric], new.means[metric]
    return Compatibility(metric, len(judged), len(vectors), *means, found.mean, found.low, found.high, confidence)


def _rows(vectors: Any, what: str, ids: Sequence[str], dimension: int | None) -> Floats:
    rows = checked_rows(vectors, what, dimension=dimension)
    if len(rows) != len(ids):
        raise SwapError(f"{what} are not as many as their ids", got=f"{len(rows)} vectors, {len(ids)} ids")
    return rows


def _within(qrels: Qrels, query_ids: Sequence[str], document_ids: Sequence[str]) -> Qrels:
    """Judgements of these documents only, for queries that have a relevant one among them."""
    there, asked = set(document_ids), set(query_ids)
    kept = {
        query: {document: grade for document, grade in found.items() if document in there}
        for query, found in qrels.judgements.items()
        if query in asked and qrels.relevant(query) & there
    }
    if len(kept) < 2:
        raise SwapError(
            "too few judged queries to compare encoders",
            got=f"{len(kept)} with a relevant document among {len(there)}",
            expected="at least 2, better 100 or more",
            do="give more documents, or qrels over these",
        )
    return Qrels(kept, qrels.source)


def _evaluated(
    name: str,
    queries: Floats,
    documents: Floats,
    qrels: Qrels,
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    similarity: Similarity,
    metric: str,
) -> Evaluation:
    rows = [row for row, query in enumerate(query_ids) if query in qrels.judgements]
    found, scores = nearest(queries[rows], documents, cutoff(metric) or _DEPTH, similarity=similarity)
    rankings = {
        query_ids[row]: [(document_ids[i], float(score)) for i, score in zip(best, values, strict=True)]
        for row, best, values in zip(rows, found, scores, strict=True)
    }
    return evaluate(Run(name, rankings), qrels, [metric])
