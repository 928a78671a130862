"""A reranker that explores finds documents that were not candidates, within its budget, in the order of its scores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config import check_adapters, parse_config
from diptych.errors import ConfigError, SearchError
from diptych.plugins.anchor_scores import write_anchors
from diptych.protocols import Fingerprint, Pair
from diptych.search import EarlyExit, Explore, Pipeline, Rerank, Retrieve
from diptych.search.rerank import EXPLORED, fitted
from diptych.testing import fakes_plugin
from diptych.types import Document, Floats

NAMED = re.compile(r"n(\d+)")  # texts of the test; diptych's own canaries are like the first
TASTE = np.random.default_rng(0).normal(size=(400, 4))  # of each number that a text can name


class Tastes:
    """A reranker of four hidden tastes: texts name numbers, whose tastes are multiplied. Keeps its pairs."""

    max_length: int | None = None

    def __init__(self, *, space: str = "tastes", independent: bool = True) -> None:
        self.fingerprint, self.independent = Fingerprint(space), independent
        self.pairs: list[Pair] = []

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.pairs += pairs
        return np.array([_score(*pair) for pair in pairs], np.float32)


def _score(query: str, document: str) -> float:
    one, other = (TASTE[int(found[1]) if (found := NAMED.fullmatch(text)) else 0] for text in (query, document))
    return float(one @ other + 0.2 * other.sum())


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [AdapterSpec(name="tastes", kind="reranker", factory=f"{__name__}:Tastes", summary="of tests")]


DOCUMENTS = [Document(f"d{n}", f"n{n}", metadata={"odd": bool(n % 2), "third": n % 3}) for n in range(300)]
QUERY = "n399"
BEST = sorted((f"d{n}" for n in range(300)), key=lambda name: -_score(QUERY, f"n{name[1:]}"))
FEW = Pipeline((Retrieve("dense", 10),))


@dataclass
class Shop:
    """The collection, and a search with a fresh reranker that counts."""

    collection: Collection

    def ids(self, reranker: Tastes, *, first: Pipeline = FEW, limit: int = 10, **options: Any) -> list[str]:
        explore = Explore("scores", options.pop("rounds", 4), options.pop("budget", 40))
        stage = Rerank(reranker, options.pop("candidates", 10), explore=explore, deadline=options.pop("deadline", None))
        return [hit.id for hit in self.collection.search(QUERY, pipeline=first >> stage, limit=limit, **options)]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(fakes_plugin, Plugin, installed=False)


@pytest.fixture(scope="module")
def anchors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anchors") / "anchors.txt"
    write_anchors(path, [f"n{n}" for n in range(300, 320)])
    return path


def config(anchors: Path, **search: Any) -> dict[str, Any]:
    slots = {
        "dense": {"adapter": "fake-dense", "dimension": 8},
        "lexical": {"adapter": "fake-sparse"},
        "scores": {"adapter": "tastes", "anchors": {"texts": str(anchors)}},
    }
    found = {"retrieve": {"dense": 10}, **search}
    return {"store": "memory:", "collection": "c", "slots": slots, "search": found, "cache": {"enabled": False}}


@pytest.fixture(scope="module")
def shop(registry: Registry, anchors: Path) -> Iterator[Shop]:
    stage = {"adapter": "tastes", "candidates": 10, "explore": {"anchors": "scores", "budget": 40}}
    with Collection.open(config(anchors, rerank=[stage]), registry=registry) as opened:
        opened.populate(DOCUMENTS)
        yield Shop(opened)


def test_the_fit_is_the_ridge_solution() -> None:
    random = np.random.default_rng(1)
    vectors, scores = random.normal(size=(12, 31)).astype(np.float32), random.normal(size=12)
    rows, rest = vectors[:, :-1].astype(float), scores - vectors[:, -1]
    penalty = 0.1 * np.mean(np.square(rows).sum(axis=1))
    expected = np.linalg.solve(rows.T @ rows + penalty * np.eye(30), rows.T @ rest)
    np.testing.assert_allclose(fitted(vectors, scores.tolist(), 0.1), [*expected, 1], atol=1e-5)


def test_without_scores_the_means_alone_count() -> None:
    np.testing.assert_array_equal(fitted(np.zeros((0, 4), np.float32), [], 0.1), [0, 0, 0, 1])
    np.testing.assert_array_equal(fitted(np.array([[0, 0, 2]], np.float32), [5.0], 0.1), [0, 0, 1])


def test_documents_are_found_that_were_no_candidates(shop: Shop) -> None:
    candidates = {hit.id for hit in shop.collection.search(QUERY, pipeline=FEW, limit=10)}
    assert len(candidates & {*BEST[:10]}) < 3
    assert shop.ids(Tastes()) == BEST[:10]


def test_each_document_is_scored_once_and_no_more_than_the_budget(shop: Shop) -> None:
    reranker = Tastes()
    assert len(shop.ids(reranker, budget=33, limit=33)) == 33
    assert len(reranker.pairs) == len(set(reranker.pairs)) == 33


def test_a_budget_beyond_the_collection_scores_everything(shop: Shop) -> None:
    reranker = Tastes()
    assert shop.ids(reranker, budget=1000, limit=300) == BEST
    assert len(reranker.pairs) == 300


def test_the_order_is_that_of_the_rerankers_scores(shop: Shop) -> None:
    hits = shop.collection.search(QUERY, limit=40)
    np.testing.assert_allclose(
        [hit.score for hit in hits], [_score(QUERY, hit.document.text) for hit in hits], rtol=1e-5
    )
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.stages.get(EXPLORED) for hit in hits} == {None, 1.0, 2.0, 3.0}


def test_several_queries_explore_as_each_alone(shop: Shop) -> None:
    queries = [f"n{n}" for n in range(390, 400)]
    together = shop.collection.search_batch(queries, limit=7)
    alone = [shop.collection.search(query, limit=7) for query in queries]
    assert [[hit.id for hit in hits] for hits in together] == [[hit.id for hit in hits] for hits in alone]


def test_filter_and_exclusions_hold_for_what_is_found(shop: Shop) -> None:
    odd = [name for name in BEST if int(name[1:]) % 2]
    assert shop.ids(Tastes(), where={"odd": True}) == odd[:10]
    assert shop.ids(Tastes(), where={"odd": True}, exclude=odd[:2]) == odd[2:12]
    assert shop.ids(Tastes(), pin=["d0"])[0] == "d0"


def test_a_query_without_candidates_begins_with_the_highest_means(shop: Shop) -> None:
    lexical = Pipeline((Retrieve("lexical", 10),))
    assert shop.collection.search(QUERY, pipeline=lexical) == [], "no document names the query's number"
    means = {f"n{n}": np.mean([_score(f"n{a}", f"n{n}") for a in range(300, 320)]) for n in range(300)}
    reranker = Tastes()
    assert shop.ids(reranker, first=lexical) == BEST[:10]
    assert {document for _, document in reranker.pairs[:10]} <= {*sorted(means, key=lambda name: -means[name])[:14]}


def test_after_the_deadline_candidates_follow_unscored(shop: Shop) -> None:
    reranker = Tastes()
    found = shop.ids(reranker, deadline=1e-6, limit=10)
    assert len(reranker.pairs) == 8
    assert len(found) == 10
    (one,) = shop.collection.explain(QUERY, ids=[found[0]], pipeline=_exploring(Tastes(), deadline=1e-6))
    count = "Tastes scored 8 documents in 1 round, 0 of which were no candidates"
    assert one.notes == (f"{count}, until its deadline of 1e-06 s",)


def test_small_rounds_end_at_the_deadline_as_well(shop: Shop) -> None:
    reranker = Tastes()
    assert len(shop.ids(reranker, rounds=10, budget=40, deadline=1e-6, limit=10)) == 10
    assert len(reranker.pairs) == 4, "the first round alone"
    pipeline = FEW >> Rerank(Tastes(), 10, explore=Explore("scores", 10, 40), deadline=1e-6)
    (one,) = shop.collection.explain(QUERY, ids=["d0"], pipeline=pipeline)
    assert one.notes[0].endswith("4 documents in 1 round, 0 of which were no candidates, until its deadline of 1e-06 s")


def test_the_budget_is_spent_on_candidates_where_documents_lack_anchor_scores(
    registry: Registry, anchors: Path
) -> None:
    with Collection.open(config(anchors), registry=registry) as opened:
        opened.populate(DOCUMENTS[:100])
        (vector,) = [name for name in _vectors(opened) if name.startswith("scores")]
        opened.handle.client.delete_vectors("c", [vector], models.Filter())
        reranker = Tastes()
        stage = Rerank(reranker, 100, explore=Explore("scores", 4, 40))
        hits = opened.search(QUERY, pipeline=Pipeline((Retrieve("dense", 100),)) >> stage, limit=40)
    assert len(hits) == len(reranker.pairs) == len(set(reranker.pairs)) == 40


def _vectors(opened: Collection) -> list[str]:
    return [slot.vector for slot in opened.handle.now().slots.values()]


def _exploring(reranker: Tastes, **options: Any) -> Pipeline:
    return FEW >> Rerank(reranker, 10, explore=Explore("scores", 4, 40), **options)


def test_explain_shows_rounds_and_calls(shop: Shop) -> None:
    best, worst = shop.collection.explain(QUERY, ids=[BEST[0], BEST[-1]])
    note = "tastes scored 40 documents in 4 rounds (10 + 10 + 10 + 10), 30 of which were no candidates"
    assert note in best.notes
    assert best.stages["tastes"] == pytest.approx(_score(QUERY, f"n{BEST[0][1:]}"))
    assert worst.lost == "not among the candidates of any slot, and not found by exploring"


def test_a_candidate_that_a_later_round_finds_is_not_counted_as_new(shop: Shop) -> None:
    pipeline = Pipeline((Retrieve("dense", 300),)) >> Rerank(Tastes(), 300, explore=Explore("scores", 4, 40))
    (best,) = shop.collection.explain(QUERY, ids=[BEST[0]], pipeline=pipeline)
    assert best.notes[0].endswith("4 rounds (10 + 10 + 10 + 10), 0 of which were no candidates")


def test_a_cascade_goes_on_with_what_was_found(shop: Shop) -> None:
    pipeline = FEW >> Rerank(Tastes(), 10, explore=Explore("scores", 4, 40)) >> Rerank(Tastes(), 20)
    assert pipeline.depth == 20
    assert [hit.id for hit in shop.collection.search(QUERY, pipeline=pipeline, limit=10)] == BEST[:10]


def test_groups_are_formed_of_what_was_found(shop: Shop) -> None:
    groups = shop.collection.search_groups(QUERY, group_by="third", group_size=2, limit=3)
    assert {group.value for group in groups} == {0, 1, 2}
    assert groups[0].hits[0].id == BEST[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Explore("scores", 5, 4),
            r"rounds and budget do not fit\n.*\n.*5 rounds, budget 4\n.*\n.*do: raise the budget",
        ),
        (lambda: Explore("scores", 1, 4), r"rounds is not usable\n.*Explore.rounds\n.*1\n.*at least 2"),
        (lambda: Explore("scores", ridge=0), r"ridge is not usable"),
        (lambda: Rerank("tastes", explore=Explore("scores"), weight=0.5), r"ranks by the reranker.s scores alone"),
        (
            lambda: Rerank("tastes", explore=Explore("scores"), early_exit=EarlyExit()),
            r"leave weight and early_exit",
        ),
    ],
)
def test_impossible_stages_are_errors(make: Any, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        make()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            _exploring(Tastes(space="other")),
            r"by another reranker\n.*'scores'.*\n.*of other\n.*expected: tastes\n",
        ),
        (_exploring(Tastes(independent=False)), r"cannot explore\n(.*\n)*.*leave explore out"),
        (
            FEW >> Rerank(Tastes(), 10, explore=Explore("dense")),
            r"needs a slot with anchor scores\n.*\n.*'dense'\n.*scores",
        ),
        (
            FEW >> Rerank(Tastes(), 10, explore=Explore("none")),
            r"needs a slot with anchor scores\n.*\n.*'none'\n.*scores",
        ),
        (Pipeline((Retrieve("scores"),)), r"no vector for scores of anchors\n.*slot 'scores'"),
    ],
)
def test_what_does_not_fit_the_collection_is_an_error(shop: Shop, pipeline: Pipeline, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        shop.collection.search(QUERY, pipeline=pipeline, limit=5)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            {"explore": {"anchors": "scores", "rounds": 9, "budget": 8}},
            r"search\.rerank\[0\]\.explore\n.*got: 9 rounds, budget 8\n.*a document for each",
        ),
        ({"explore": {"anchors": "scores"}, "weight": 0.5}, "it ranks by the reranker's scores alone"),
        ({"explore": {"anchors": "scores"}, "early_exit": {"block": 5}}, "explore cannot be combined with"),
        ({"explore": {"anchors": "nowhere"}}, "there is no slot 'nowhere'"),
        ({"explore": {"anchors": "dense"}}, "slot 'dense' holds no scores of anchors"),
        ({"adapter": "fake-reranker", "explore": {"anchors": "scores"}}, "scored by another reranker"),
    ],
)
def test_configs_that_do_not_fit_are_errors(
    registry: Registry, anchors: Path, stage: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_adapters(parse_config(config(anchors, rerank=[{"adapter": "tastes", **stage}])), registry)


def test_anchors_of_another_reranker_are_refused_before_a_document_is_scored(registry: Registry, anchors: Path) -> None:
    stage = {"adapter": "tastes", "explore": {"anchors": "scores"}}
    same, other = (
        parse_config(config(anchors, rerank=[{**stage, **options}]))
        for options in ({"independent": True}, {"space": "other"})
    )
    plain = config(anchors)
    del plain["slots"]["scores"]
    message = (
        r"(?s)another reranker than the one.*where: search\.rerank\[0\]\.explore.*got: .*other\n.*expected: tastes\n"
    )
    with Collection.open(plain, registry=registry) as opened:
        opened.populate(DOCUMENTS[:20])
        for refused in (opened.plan, opened.apply):
            with pytest.raises(ConfigError, match=message):
                refused(other)
        assert "scores" not in opened.handle.now().slots
        assert [step.action for step in opened.plan(same).steps] == ["keep", "keep", "add"], "the options differ alone"
    with Collection.open(other, registry=registry) as opened:
        for dry_run in (True, False):
            with pytest.raises(ConfigError, match=message):
                opened.populate(DOCUMENTS[:20], dry_run=dry_run)
        assert not opened.handle.exists, "a search would refuse all of it"
    with Collection.open(same, registry=registry) as opened:
        opened.populate(DOCUMENTS[:20])
        assert len(opened.search("n3", limit=20)) == 20


def test_slots_of_anchors_are_not_retrieved_unless_named_which_is_an_error(registry: Registry, anchors: Path) -> None:
    stage = {"adapter": "tastes", "explore": {"anchors": "scores"}}
    plain = parse_config(config(anchors, retrieve={}, rerank=[stage]))
    check_adapters(plain, registry)
    assert [*plain.search.retrieved(plain.slots)] == ["dense", "lexical"]
    for retrieve in ({}, {"scores": 10}):
        with pytest.raises(ConfigError, match="by which no query can be searched"):
            check_adapters(parse_config(config(anchors, retrieve=retrieve)), registry)


def test_only_rerankers_have_anchors_and_no_first_stage(registry: Registry, anchors: Path) -> None:
    raw = config(anchors)
    raw["slots"]["dense"]["anchors"] = {"texts": str(anchors)}
    raw["slots"]["scores"]["storage"] = {"first_stage": {"dimension": 4}}
    with pytest.raises(ConfigError, match=r"is not a reranker, so it cannot score anchors(.|\n)*have no first stage"):
        check_adapters(parse_config(raw), registry)
