"""Rerankers: all queries' pairs together, a cascade, stable ties, and scores that break the contract.

With an early exit exactly as many pairs are scored as its rule says. With a deadline what was scored in time comes
first, and the rest follows in its former order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.config.models import SearchConfig
from diptych.errors import ContractError, SearchError
from diptych.protocols import Pair
from diptych.search import EarlyExit, Pipeline, Rerank, Retrieve, rerank
from diptych.search.fusion import mixed
from diptych.search.rerank import FIRST_BATCH, score, score_pairs, score_until, score_until_settled
from diptych.testing import FakeReranker, fakes_plugin


def numbers(pairs: Sequence[Pair]) -> Any:
    """The numbers in which the documents end."""
    return np.array([float(document.rpartition("d")[2]) for _, document in pairs], np.float32)


class Returning:
    """A reranker that answers `make(pairs)`; by a clock of its own each pair takes `seconds`."""

    max_length: int | None = None

    def __init__(self, make: Any = numbers, *, independent: bool = True, seconds: float = 0.0) -> None:
        self.make, self.independent, self.seconds = make, independent, seconds
        self.calls, self.now = list[list[Pair]](), 0.0

    def clock(self) -> float:
        return self.now

    def predict(self, pairs: Sequence[Pair]) -> Any:
        self.now += self.seconds * len(pairs)
        self.calls.append(list(pairs))
        return self.make(pairs)


def lengths(pairs: Sequence[Pair]) -> Any:
    return np.array([len(document) for _, document in pairs], np.float32)


GROUPS: list[list[Pair]] = [[("q", "a"), ("q", "bb")], [], [("r", "ccc")]]


def test_all_queries_pairs_go_in_one_call() -> None:
    reranker = Returning(lengths)
    assert [scores.tolist() for scores in score_pairs(reranker, GROUPS, where="x")] == [[1, 2], [], [3]]
    assert [*map(len, reranker.calls)] == [3]


def test_a_reranker_that_looks_at_the_other_candidates_is_called_per_query() -> None:
    reranker = Returning(lambda pairs: np.arange(len(pairs), dtype=np.float32), independent=False)
    assert [scores.tolist() for scores in score_pairs(reranker, GROUPS, where="x")] == [[0, 1], [], [0]]
    assert [*map(len, reranker.calls)] == [2, 1]


def test_calls_are_bounded_and_the_order_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "PAIRS_PER_CALL", 4)
    reranker = Returning(lengths)
    groups = [[("q", "x" * n) for n in range(start, start + 5)] for start in (1, 11)]
    scores = score_pairs(reranker, groups, where="x")
    assert [found.tolist() for found in scores] == [[1, 2, 3, 4, 5], [11, 12, 13, 14, 15]]
    assert [*map(len, reranker.calls)] == [4, 4, 2]


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


def group(query: str, *scores: float) -> list[Pair]:
    return [(query, str(score)) for score in scores]


def settled(groups: Sequence[Sequence[Pair]], exit: EarlyExit, best: int) -> list[list[float]]:
    reranker = Returning()
    found = score_until_settled(reranker, groups, exit, best, where="x")
    assert sum(map(len, found)) == sum(map(len, reranker.calls)), "no pair is scored twice"
    return [own.tolist() for own in found]


FALLING = group("q", 9, 8, 7, 6, 5, 4, 3, 2, 1)


def test_each_query_stops_for_itself_and_the_blocks_of_all_are_scored_together() -> None:
    reranker, rising = Returning(), group("r", 1, 2, 3, 4, 5)
    found = score_until_settled(reranker, [FALLING, rising], EarlyExit(2, 1), 1, where="x")
    assert [own.tolist() for own in found] == [[9, 8, 7, 6], [1, 2, 3, 4, 5]]
    assert [[query for query, _ in pairs] for pairs in reranker.calls] == [list("qqrr"), list("qqrr"), ["r"]]


def test_the_rule_holds_for_random_scores_as_it_is_written() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        scores = random.integers(0, 12, size=int(random.integers(1, 40))).tolist()
        block, patience, best = (int(n) for n in random.integers(1, 6, size=3))
        assert settled([group("q", *scores)], EarlyExit(block, patience), best) == [
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


def candidates(count: int) -> list[Pair]:
    return [("q", f"d{n}") for n in range(count)]


def scored(reranker: Returning, groups: Sequence[Sequence[Pair]], seconds: float) -> list[list[float]]:
    found = score_until(reranker, groups, seconds, where="x", clock=reranker.clock)
    return [own.tolist() for own in found]


def test_what_fits_into_the_time_is_scored_best_candidates_first() -> None:
    reranker = Returning(seconds=0.01)
    (found,) = scored(reranker, [candidates(100)], 0.3)
    assert found == [float(n) for n in range(len(found))]
    assert 28 <= len(found) <= 30, "a pair takes a hundredth of a second"
    assert reranker.now <= 0.3 + 1e-9


@pytest.mark.parametrize(
    ("seconds", "counts", "deadline", "scored_pairs"),
    [
        (0.001, [50, 0, 7], 60.0, [50, 0, 7]),  # there is time for all
        (9.0, [50], 0.3, [FIRST_BATCH]),  # however late the first batch is
        (0.01, [100, 100, 3], 0.4, [18, 18, 3]),  # the queries of a batch share the time alike
    ],
)
def test_how_many_pairs_of_each_query_are_scored(
    seconds: float, counts: list[int], deadline: float, scored_pairs: list[int]
) -> None:
    found = [*map(len, scored(Returning(seconds=seconds), [*map(candidates, counts)], deadline))]
    assert found == pytest.approx(scored_pairs, abs=1)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda reranker: score_until_settled(reranker, [FALLING], EarlyExit(), 3, where="reranker 'x'"), "early_exit"),
        (lambda reranker: score_until(reranker, [candidates(3)], 1.0, where="reranker 'x'"), "deadline"),
    ],
)
def test_a_reranker_that_looks_at_all_candidates_cannot_stop_early(call: Callable[[Any], object], option: str) -> None:
    said = rf"cannot stop early\n.*reranker 'x'\n.*independent = False\n.*leave {option} out"
    with pytest.raises(SearchError, match=said):
        call(Returning(independent=False))


@pytest.fixture
def collection() -> Collection:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 16}}
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
    opened = Collection.open(config, registry=Registry(fakes_plugin, installed=False))
    opened.populate([{"id": str(n), "text": f"word{n} d{n}"} for n in range(40)])
    return opened


AT_ONCE = 1e-6  # over after the first batch on any machine


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_candidates_without_a_score_follow_in_their_former_order(collection: Collection, weight: float) -> None:
    before = [hit.id for hit in collection.search("word3", pipeline=Retrieve("dense"), limit=20)]
    pipeline = Retrieve("dense") >> Rerank(Returning(), 20, deadline=AT_ONCE, weight=weight)
    hits = collection.search("word3", pipeline=pipeline, limit=20)
    marked = [hit.id for hit in hits if "Returning" in hit.stages]
    assert {*marked} == {*before[:FIRST_BATCH]}
    unmarked = [hit.id for hit in hits if "Returning" not in hit.stages]
    assert unmarked == before[FIRST_BATCH:]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    if weight == 1:
        assert marked == sorted(before[:FIRST_BATCH], key=int, reverse=True)
        assert [hit.id for hit in hits] == [*marked, *unmarked]
    pages = [collection.search("word3", pipeline=pipeline, limit=5, offset=start) for start in (0, 5, 10, 15)]
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in hits]
    later = asyncio.run(collection.asearch("word3", pipeline=pipeline, limit=20))
    assert [hit.id for hit in later] == [hit.id for hit in hits]


def test_explain_says_how_many_were_scored(collection: Collection) -> None:
    pipeline = Retrieve("dense") >> Rerank(Returning(), 20, deadline=AT_ONCE)
    (explanation,) = collection.explain("word3", pipeline=pipeline, limit=1)
    note = f"Returning scored {FIRST_BATCH} of 20 candidates within its deadline of 1e-06 s"
    assert explanation.notes == (note,) == tuple(explanation.as_dict()["notes"])
    assert note in str(explanation).splitlines()
    in_time = Retrieve("dense") >> Rerank(Returning(), 20, deadline="10m")
    assert collection.explain("word3", pipeline=in_time, limit=1)[0].notes == ()


def test_the_deadline_comes_from_the_config_and_is_told() -> None:
    stages = [{"adapter": "a", "deadline": "300ms"}, {"adapter": "b", "deadline": 2, "options": {"deadline": 30}}]
    config = SearchConfig.model_validate({"retrieve": {"dense": 9}, "rerank": stages})
    first, second = Pipeline.from_config(config, {}).rerank
    assert repr(first) == "Rerank('a', 50, deadline=0.3)"
    assert (second.deadline, second.options) == (2.0, {"deadline": 30})
    assert SearchConfig.model_validate(config.model_dump(mode="json")) == config
