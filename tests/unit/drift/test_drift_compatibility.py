from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diptych.errors import EvaluationError, SwapError
from diptych.evaluate import Qrels, compare, evaluate
from diptych.swap.drift import Compatibility, compatibility
from diptych.types import Run

pytest.importorskip("ir_measures")
pytest.importorskip("scipy")

SIZE = 60
DOCUMENTS = [f"d{i}" for i in range(SIZE)]
QUERIES = [f"q{i}" for i in range(SIZE)]
QRELS = Qrels({query: {document: 1} for query, document in zip(QUERIES, DOCUMENTS, strict=True)})
VECTORS = np.random.default_rng(0).normal(size=(SIZE, 16)).astype(np.float32)


def asked(noise: float, seed: int = 1) -> Any:
    """Queries near their documents, the farther the more noise."""
    return VECTORS + noise * np.random.default_rng(seed).normal(size=VECTORS.shape).astype(np.float32)


def compared(old: Any, new: Any, **options: Any) -> Compatibility:
    names: dict[str, Any] = {"document_ids": DOCUMENTS, "query_ids": QUERIES}
    return compatibility(VECTORS, old, new, QRELS, **(names | options))


def test_queries_that_find_more_are_better_and_the_other_way_round_are_not() -> None:
    better, worse = compared(asked(2.0), asked(0.5)), compared(asked(0.5), asked(2.0))
    assert better.better
    assert not worse.better
    assert worse.high < 0
    assert "better" in str(better)
    assert "worse" in str(worse)
    assert better.difference == pytest.approx(better.new - better.old)


def test_equal_queries_show_no_difference() -> None:
    same = compared(asked(1.0), asked(1.0))
    assert (same.difference, same.low, same.high, same.better) == (0, 0, 0, False)
    assert str(same).endswith("no clear difference")
    assert same.not_worse(0.01)


def test_the_margin_is_what_the_interval_must_exclude() -> None:
    found = compared(asked(0.9), asked(1.2, seed=2))
    assert found.low < 0
    assert found.not_worse(-found.low + 0.001)
    assert not found.not_worse(-found.low - 0.001)


def test_the_figures_are_those_of_evaluate_and_compare() -> None:
    runs = []
    for name, queries in (("old", asked(1.5)), ("new", asked(1.0))):
        scores = queries @ VECTORS.T / np.linalg.norm(VECTORS, axis=1)
        ranked = {
            query: sorted(zip(DOCUMENTS, map(float, row), strict=True), key=lambda pair: -pair[1])[:10]
            for query, row in zip(QUERIES, scores, strict=True)
        }
        runs.append(evaluate(Run(name, ranked), QRELS, ["MRR@10"]))
    difference = compare(runs, "old", "MRR@10", seed=3).of("new")
    found = compared(asked(1.5), asked(1.0), metric="MRR@10", seed=3)
    assert (found.old, found.new) == pytest.approx([run.means["MRR@10"] for run in runs])
    assert (found.low, found.high) == pytest.approx((difference.low, difference.high))
    assert (found.queries, found.documents, found.confidence) == (60, 60, 0.95)


def test_of_a_sample_of_documents_only_queries_count_that_can_find_something() -> None:
    found = compatibility(VECTORS[:20], asked(2.0), asked(0.0), QRELS, document_ids=DOCUMENTS[:20], query_ids=QUERIES)
    assert (found.queries, found.documents) == (20, 20)
    assert found.new == pytest.approx(1)


def test_a_metric_without_a_cutoff_ranks_all() -> None:
    assert compared(asked(2.0), asked(0.0), metric="MAP").new == pytest.approx(1)


def test_where_length_counts_it_counts() -> None:
    long = VECTORS.copy()
    long[0] *= 100
    by = {
        similarity: compatibility(
            long, VECTORS, VECTORS, QRELS, document_ids=DOCUMENTS, query_ids=QUERIES, similarity=similarity
        ).new
        for similarity in ("cosine", "dot")
    }
    assert by["cosine"] == pytest.approx(1)
    assert by["dot"] < 0.9


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            asked(1)[:, :8],
            asked(1),
            r"old encoder's queries have another shape\n  got: \(60, 8\)\n  expected: \[n, 16\]",
        ),
        (asked(1), asked(1)[:, :8], r"the new encoder's queries have another shape"),
        (asked(1), asked(1)[:5], r"the new encoder's queries are not as many as their ids\n  got: 5 vectors, 60 ids"),
        (asked(1) * np.nan, asked(1), "the old encoder's queries hold numbers that are not finite"),
    ],
)
def test_queries_that_cannot_ask_these_documents_are_refused(old: Any, new: Any, text: str) -> None:
    with pytest.raises(SwapError, match=text):
        compared(old, new)


def test_without_judged_queries_nothing_is_compared() -> None:
    with pytest.raises(SwapError, match="too few judged queries to compare encoders\n  got: 0 with a relevant"):
        compared(asked(1), asked(1), document_ids=[f"other{i}" for i in range(SIZE)])


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(EvaluationError, match="unknown metric 'nDGC@10'"):
        compared(asked(1), asked(1), metric="nDGC@10")
