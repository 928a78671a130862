from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diptych.evaluate import ann_recall
from diptych.types import Run

EXACT = Run("exact", {"q1": [("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.7), ("e", 0.1)], "q2": [("a", 0.5)]})


def found(*ranking: tuple[str, float]) -> Run:
    return Run("hnsw", {"q1": ranking, "q2": [("a", 0.5)]})


@pytest.mark.parametrize(
    ("ranking", "k", "recall"),
    [
        ([("a", 0.9), ("b", 0.8), ("c", 0.7)], 3, 1.0),
        ([("c", 0.7), ("b", 0.8), ("a", 0.9)], 3, 1.0),
        ([("a", 0.9), ("b", 0.8), ("e", 0.1)], 3, 2 / 3),
        ([("a", 0.9), ("b", 0.8), ("d", 0.55)], 3, 1.0),  # the exact run's score counts, not that of quantized vectors
        ([("a", 0.9), ("b", 0.8), ("d", 0.7)], 3, 1.0),
        ([("a", 0.9), ("b", 0.8), ("elsewhere", 0.7000001)], 3, 1.0),
        ([("a", 0.9), ("b", 0.8), ("elsewhere", 0.69)], 3, 2 / 3),
        ([("a", 0.9), ("d", 0.7), ("c", 0.7)], 3, 2 / 3),
        ([("a", 0.9), ("d", 0.7), ("c", 0.7)], 2, 1 / 2),
        ([("e", 0.7), ("a", 0.9)], 3, 1 / 3),
        ([("a", 0.9)], 3, 1 / 3),
        ([], 3, 0.0),
        ([("e", 0.1), ("a", 0.9)], 1, 0.0),
        ([("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.7), ("e", 0.1)], 50, 1.0),
    ],
)
def test_ties_with_the_last_exact_document_fill_its_place_but_not_a_better_ones(
    ranking: Sequence[tuple[str, float]], k: int, recall: float
) -> None:
    assert ann_recall(found(*ranking), EXACT, k) == pytest.approx((recall + 1) / 2), "the other query has recall 1"


def test_on_vectors_without_ties_it_is_the_share_of_common_documents() -> None:
    rng = np.random.default_rng(6)
    documents, queries = rng.normal(size=(500, 32)), rng.normal(size=(20, 32))
    exact, rough = queries @ documents.T, queries[:, :24] @ documents[:, :24].T
    top, near = np.argsort(-exact, axis=1)[:, :10], np.argsort(-rough, axis=1)[:, :10]
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(top, near, strict=True)])
    runs = [
        Run(name, {f"q{q}": [(str(d), float(exact[q, d])) for d in row] for q, row in enumerate(rows)})
        for name, rows in (("rough", near), ("exact", top))
    ]
    assert ann_recall(runs[0], runs[1], 10) == pytest.approx(by_hand)
    assert 0.3 < by_hand < 0.95


def test_distances_where_less_is_better_work_too() -> None:
    exact = Run("exact", {"q": [("a", 0.1), ("b", 0.2), ("c", 0.2)]})
    assert ann_recall(Run("hnsw", {"q": [("a", 0.1), ("c", 0.2)]}), exact, 2) == 1.0
    assert ann_recall(Run("hnsw", {"q": [("a", 0.1), ("d", 0.3)]}), exact, 2) == 0.5


def test_where_there_is_nothing_to_find_nothing_is_missed() -> None:
    assert ann_recall(Run("hnsw", {"q": []}), Run("exact", {"q": []}), 5) == 1.0
