"""A reranker with a deadline: what it scored in time comes first, the rest follows in its former order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.config.models import SearchConfig
from diptych.errors import SearchError
from diptych.protocols import Pair
from diptych.search import Pipeline, Rerank, Retrieve
from diptych.search.rerank import FIRST_BATCH, score_until
from diptych.testing import fakes_plugin
from diptych.types import Floats


class Slow:
    """A reranker with a clock of its own: each pair takes `seconds`. Scores are the numbers that documents end in."""

    max_length: int | None = None

    def __init__(self, seconds: float = 0.0, *, independent: bool = True) -> None:
        self.seconds, self.independent = seconds, independent
        self.now, self.sizes = 0.0, list[int]()

    def clock(self) -> float:
        return self.now

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.now += self.seconds * len(pairs)
        self.sizes.append(len(pairs))
        return np.array([int(document.rpartition("d")[2]) for _, document in pairs], np.float32)


def group(count: int) -> list[Pair]:
    return [("q", f"d{n}") for n in range(count)]


def scored(reranker: Slow, groups: Sequence[Sequence[Pair]], seconds: float) -> list[list[float]]:
    found = score_until(reranker, groups, seconds, where="x", clock=reranker.clock)
    return [own.tolist() for own in found]


def test_what_fits_into_the_time_is_scored_best_candidates_first() -> None:
    reranker = Slow(0.01)
    (found,) = scored(reranker, [group(100)], 0.3)
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
    found = [*map(len, scored(Slow(seconds), [*map(group, counts)], deadline))]
    assert found == pytest.approx(scored_pairs, abs=1)


def test_a_reranker_that_looks_at_all_candidates_has_no_deadline() -> None:
    with pytest.raises(SearchError, match=r"cannot stop early\n.*reranker 'x'\n.*\n.*leave deadline out"):
        score_until(Slow(independent=False), [group(3)], 1.0, where="reranker 'x'")


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
    pipeline = Retrieve("dense") >> Rerank(Slow(), 20, deadline=AT_ONCE, weight=weight)
    hits = collection.search("word3", pipeline=pipeline, limit=20)
    marked = [hit.id for hit in hits if "Slow" in hit.stages]
    assert {*marked} == {*before[:FIRST_BATCH]}
    unmarked = [hit.id for hit in hits if "Slow" not in hit.stages]
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
    pipeline = Retrieve("dense") >> Rerank(Slow(), 20, deadline=AT_ONCE)
    (explanation,) = collection.explain("word3", pipeline=pipeline, limit=1)
    note = f"Slow scored {FIRST_BATCH} of 20 candidates within its deadline of 1e-06 s"
    assert explanation.notes == (note,) == tuple(explanation.as_dict()["notes"])
    assert note in str(explanation).splitlines()
    in_time = Retrieve("dense") >> Rerank(Slow(), 20, deadline="10m")
    assert collection.explain("word3", pipeline=in_time, limit=1)[0].notes == ()


def test_the_deadline_comes_from_the_config_and_is_told() -> None:
    stages = [{"adapter": "a", "deadline": "300ms"}, {"adapter": "b", "deadline": 2, "options": {"deadline": 30}}]
    config = SearchConfig.model_validate({"retrieve": {"dense": 9}, "rerank": stages})
    first, second = Pipeline.from_config(config, {}).rerank
    assert repr(first) == "Rerank('a', 50, deadline=0.3)"
    assert (second.deadline, second.options) == (2.0, {"deadline": 30})
    assert SearchConfig.model_validate(config.model_dump(mode="json")) == config
