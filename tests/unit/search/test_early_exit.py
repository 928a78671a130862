"""A reranker that stops early scores exactly as many pairs as its rule says, and the best are those of the scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diptych.errors import SearchError
from diptych.protocols import Pair
from diptych.search import EarlyExit
from diptych.search.rerank import score_until_settled
from diptych.types import Floats


class Numbers:
    """A reranker whose score is the number that the document says."""

    max_length: int | None = None

    def __init__(self, *, independent: bool = True) -> None:
        self.independent, self.calls = independent, list[list[Pair]]()

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.calls.append(list(pairs))
        return np.array([float(document) for _, document in pairs], np.float32)


def group(query: str, *scores: float) -> list[Pair]:
    return [(query, str(score)) for score in scores]


def scored(groups: Sequence[Sequence[Pair]], exit: EarlyExit, best: int) -> list[list[float]]:
    reranker = Numbers()
    found = score_until_settled(reranker, groups, exit, best, where="x")
    assert sum(map(len, found)) == sum(map(len, reranker.calls)), "no pair is scored twice"
    return [own.tolist() for own in found]


FALLING = group("q", 9, 8, 7, 6, 5, 4, 3, 2, 1)


def test_each_query_stops_for_itself_and_the_blocks_of_all_are_scored_together() -> None:
    reranker, rising = Numbers(), group("r", 1, 2, 3, 4, 5)
    found = score_until_settled(reranker, [FALLING, rising], EarlyExit(2, 1), 1, where="x")
    assert [own.tolist() for own in found] == [[9, 8, 7, 6], [1, 2, 3, 4, 5]]
    assert [[query for query, _ in pairs] for pairs in reranker.calls] == [list("qqrr"), list("qqrr"), ["r"]]


def test_the_rule_holds_for_random_scores_as_it_is_written() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        scores = random.integers(0, 12, size=int(random.integers(1, 40))).tolist()
        block, patience, best = (int(n) for n in random.integers(1, 6, size=3))
        assert scored([group("q", *scores)], EarlyExit(block, patience), best) == [
            scores[: by_the_words(scores, block, patience, best)]
        ]


def by_the_words(scores: list[int], block: int, patience: int, best: int) -> int:
    """How many are scored: after each block the best are compared with those of before."""
    quiet, before = 0, list[int]()
    for end in range(block, len(scores) + block, block):
        now = sorted(range(min(end, len(scores))), key=lambda place: -scores[place])[:best]
        quiet = quiet + 1 if len(before) == best and now == before else 0
        before = now
        if quiet == patience:
            return min(end, len(scores))
    return len(scores)


def test_a_reranker_that_looks_at_all_candidates_cannot_stop_early() -> None:
    with pytest.raises(
        SearchError, match=r"cannot stop early\n.*reranker 'x'\n.*independent = False\n.*leave early_ex"
    ):
        score_until_settled(Numbers(independent=False), [FALLING], EarlyExit(), 3, where="reranker 'x'")
