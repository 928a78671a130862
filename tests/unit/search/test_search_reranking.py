"""Rerankers: all queries' pairs together, a cascade, stable ties, and scores that break the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from diptych.errors import ContractError
from diptych.protocols import Pair
from diptych.search import rerank
from diptych.search.fusion import mixed
from diptych.search.rerank import score, score_pairs
from diptych.testing import FakeReranker


class Returning:
    """A reranker that answers `make(pairs)`."""

    max_length: int | None = None

    def __init__(self, make: Any, *, independent: bool = True) -> None:
        self.make, self.independent, self.sizes = make, independent, list[int]()

    def predict(self, pairs: Sequence[Pair]) -> Any:
        self.sizes.append(len(pairs))
        return self.make(pairs)


def lengths(pairs: Sequence[Pair]) -> Any:
    return np.array([len(document) for _, document in pairs], np.float32)


GROUPS: list[list[Pair]] = [[("q", "a"), ("q", "bb")], [], [("r", "ccc")]]


def test_all_queries_pairs_go_in_one_call() -> None:
    reranker = Returning(lengths)
    assert [scores.tolist() for scores in score_pairs(reranker, GROUPS, where="x")] == [[1, 2], [], [3]]
    assert reranker.sizes == [3]


def test_a_reranker_that_looks_at_the_other_candidates_is_called_per_query() -> None:
    reranker = Returning(lambda pairs: np.arange(len(pairs), dtype=np.float32), independent=False)
    assert [scores.tolist() for scores in score_pairs(reranker, GROUPS, where="x")] == [[0, 1], [], [0]]
    assert reranker.sizes == [2, 1]


def test_calls_are_bounded_and_the_order_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "PAIRS_PER_CALL", 4)
    reranker = Returning(lengths)
    groups = [[("q", "x" * n) for n in range(start, start + 5)] for start in (1, 11)]
    scores = score_pairs(reranker, groups, where="x")
    assert [found.tolist() for found in scores] == [[1, 2, 3, 4, 5], [11, 12, 13, 14, 15]]
    assert reranker.sizes == [4, 4, 2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda pairs: np.zeros(len(pairs) + 1, np.float32), "wrong number of scores"),
        (lambda pairs: [0.0] * len(pairs), "not a float32 array"),
        (lambda pairs: np.zeros(len(pairs), np.float64), "not a float32 array"),
        (lambda pairs: np.zeros((len(pairs), 1), np.float32), "not a float32 array"),
        (lambda pairs: np.full(len(pairs), np.nan, np.float32), "NaN or infinity\n.*reranker 'x'\n.*for 'q' and 'a'"),
        (lambda pairs: np.full(len(pairs), np.inf, np.float32), "NaN or infinity"),
    ],
)
def test_scores_that_break_the_contract_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        score_pairs(Returning(make), GROUPS, where="reranker 'x'")


def test_scores_of_one_query_come_in_the_order_of_the_documents() -> None:
    reranker, documents = FakeReranker(), ["a dog", "a cat sat", "nothing"]
    expected = reranker.predict([("a cat", document) for document in documents])
    assert np.array_equal(score(reranker, "a cat", documents), expected)
    assert score(reranker, "a cat", []).shape == (0,)


def test_what_is_no_reranker_is_said() -> None:
    with pytest.raises(ContractError, match=r"(?s)not a reranker.*got: int.*max_length, independent and predict"):
        score(3, "query", ["text"])  # type: ignore[arg-type]


def test_equal_scores_leave_the_order_to_the_other_side() -> None:
    falling = np.array([3.0, 2.0, 1.0])
    assert mixed(np.zeros(3), falling, 0.5).tolist() == [1.0, 0.75, 0.5]
    assert mixed(falling, np.zeros(3), 0.5).tolist() == [1.0, 0.75, 0.5]
