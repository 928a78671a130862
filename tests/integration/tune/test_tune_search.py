"""What `tune_search` computes is what searches give, it gains where there is something to gain, and reads only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deaf_encoder import BringsDeaf
from diptych import Collection
from diptych.config import parse_config
from diptych.errors import TuneError
from diptych.evaluate import Qrels, evaluate
from diptych.registry import Registry
from diptych.search import Pipeline
from diptych.stores.versions import is_server_client
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeReranker
from diptych.types import Document, Query, Run
from diptych_lab.tune import SearchReport, tune_search
from named_server import placed

WORDS = [f"word{n}" for n in range(80)]
CHANCE = random.Random(3)
TEXTS = [" ".join(CHANCE.sample(WORDS, 10)) for _ in range(120)]
QUERIES = [Query(" ".join(CHANCE.sample(TEXTS[n].split(), 3)), f"q{n}") for n in range(60)]
QRELS = Qrels({query.id: {str(n): 1} for n, query in enumerate(QUERIES)})


def opened(
    store: str | dict[str, Any], *, name: str = "c", search: dict[str, Any] | None = None, **slots: dict[str, Any]
) -> Collection:
    place = {"store": store} if isinstance(store, str) else store
    search = {"fuse": {"kind": "rrf"}, "retrieve": {n: 100 for n in slots if n != "late"}, **(search or {})}
    config = parse_config({**place, "collection": name, "slots": slots, "search": search, "cache": {"enabled": False}})
    made = Collection.open(config, registry=Registry(fakes_plugin, BringsDeaf()))
    made.populate(Document(str(n), text) for n, text in enumerate(TEXTS))
    return made


@pytest.fixture(scope="module", autouse=True)
def few_are_timed() -> Iterator[None]:
    """Times are medians of fewer queries than usual, since no test compares them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diptych_lab.tune.search.ASKED", 6)
        yield


GOOD = {"adapter": "fake-dense", "dimension": 128}
WORDY = {"adapter": "bm25"}


@pytest.fixture(scope="module", params=["memory:", "server"])
def collection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    late = {"adapter": "fake-multivector"}
    with (
        placed(request.param, tmp_path_factory.mktemp("store"), "c") as place,
        opened(place, dense=GOOD, lexical=WORDY, late=late) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def found(collection: Collection) -> SearchReport:
    return tune_search(collection.handle, QUERIES[:30], QRELS)


def test_values_are_those_of_searching_so(collection: Collection, found: SearchReport) -> None:
    late = [row for row in found.rows if row.pipeline.rescore]
    assert {row.pipeline.rescore.weight for row in late[::9] if row.pipeline.rescore} == {0.3, 0.5, 0.7, 1.0}
    rows = [*found.rows[:6], *found.rows[20:26:2], *late[::9], found.rows[-1]]
    for row in rows:
        value = served(collection, row.pipeline, 30)
        # Ties and approximation alone differ. A server orders ties anew at each call.
        assert row.value == pytest.approx(value, abs=0.05 if is_server_client(collection.client) else 0.02), (
            row.pipeline
        )
        assert row.milliseconds > 0


def test_the_present_pipeline_is_a_row_and_the_front_is_not_beaten(found: SearchReport) -> None:
    assert found.present == len(found.rows) - 1
    assert repr(found.rows[-1].pipeline).endswith(">> Rrf(k=60)")
    names = [row.name for row in found.rows]
    assert len(names) == len(set(names)), "the present pipeline is not a candidate beside itself"
    best = max(row.value for row in found.rows)
    assert all(
        row.front
        for row in found.rows
        if row.value == best
        and row.milliseconds == min(other.milliseconds for other in found.rows if other.value == best)
    )


def test_fewer_candidates_are_tried_unless_a_page_needs_more(collection: Collection, found: SearchReport) -> None:
    def depths(report: SearchReport) -> set[int]:
        return {branch.candidates for row in report.rows for branch in row.pipeline.retrieve}

    assert depths(found) == {50, 100}
    with opened("memory:", search={"limit": 60}, dense=GOOD, lexical=WORDY) as wide:
        assert depths(tune_search(wide.handle, QUERIES[:6], QRELS)) == {100}
    assert depths(tune_search(collection.handle, QUERIES[:6], QRELS, depths=[20])) == {20, 100}, "100 are the present"


def test_a_slot_that_hears_nothing_is_left_out_or_weighed_down() -> None:
    with opened("memory:", deaf={"adapter": "deaf"}, lexical=WORDY) as collection:
        before = collection.handle.read()
        report = tune_search(collection.handle, QUERIES, QRELS)
        assert report.passed, report.verdict
        assert report.rows[report.chosen].value > report.rows[report.present].value + 0.05
        assert report.gains[0].low > 0
        assert "it is better than the present pipeline" in report.verdict
        assert collection.handle.read() == before
        few = tune_search(collection.handle, QUERIES[:5], QRELS)
        assert (few.chosen, few.passed) == (few.present, False)
        assert few.verdict.startswith("5 judged queries are too few to choose by")


class Stages:
    """A progress that keeps how many queries each stage has left."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}

    def begin(self, stage: str, total: int | None) -> None:
        assert total == 6
        self.left[stage] = total

    def advance(self, stage: str, n: int) -> None:
        self.left[stage] -= n


@pytest.mark.parametrize("read", ["passages", "document"])
def test_a_slot_with_passages_is_retrieved_from_and_no_reranker_that_reads_them_is_tried(read: str) -> None:
    rerank = {"rerank": [{"adapter": "fake-reranker", "candidates": 15, "read": read}]}
    with opened("memory:", search=rerank, dense={**GOOD, "passages": {"tokens": 16}}, lexical=WORDY) as made:
        found = tune_search(made.handle, QUERIES[:20], QRELS)
        assert found.left_out == (("fake-reranker",) if read == "passages" else ())
        assert found.rerankers == (() if read == "passages" else ("fake-reranker",))
        retrieved = {frozenset(branch.slot for branch in row.pipeline.retrieve) for row in found.rows}
        assert {frozenset(own) for own in (["dense"], ["lexical"], ["dense", "lexical"])} <= retrieved
        assert not any(row.pipeline.rescore for row in found.rows)


def test_each_slot_is_asked_once_for_each_set_of_parameters(collection: Collection) -> None:
    stages = Stages()
    tune_search(collection.handle, QUERIES[:6], QRELS, depths=[100], progress=stages)
    graphs = {stage for stage in stages.left if "(ef" in stage}  # which a server has
    asked = {"asking dense", "asking lexical", *graphs}
    assert stages.left == dict.fromkeys([*asked, "rescoring by late", "asking the present pipeline", "timing"], 0)


def test_a_budget_leaves_only_what_is_fast_enough(collection: Collection) -> None:
    report = tune_search(collection.handle, QUERIES[:12], QRELS, budget=0.0)
    assert report.chosen == report.present


def served(collection: Collection, pipeline: Pipeline, count: int) -> float:
    """nDCG@10 of searching the first queries so."""
    queries = QUERIES[:count]
    hits = collection.search_batch(queries, pipeline=pipeline, limit=10)
    judged = Qrels({query.id: QRELS.judgements[query.id] for query in queries})
    return evaluate(Run.from_hits("run", queries, hits), judged, ["nDCG@10"]).means["nDCG@10"]


RERANK = {"rerank": [{"adapter": "fake-reranker", "candidates": 15, "record": True}]}


@pytest.fixture(scope="module", params=["memory:", "server"])
def reranked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with (
        placed(request.param, tmp_path_factory.mktemp("store"), "reranked") as place,
        opened(place, name="reranked", search=RERANK, deaf={"adapter": "deaf"}, lexical=WORDY) as made,
    ):
        yield made


def test_a_reranker_scores_each_candidate_once_and_its_trials_are_what_searches_give(reranked: Collection) -> None:
    report = tune_search(reranked.handle, QUERIES[:30], QRELS, depths=[100])
    rows = [row for row in report.rows if row.pipeline.rerank]
    settings = {(stage.candidates, stage.weight) for row in rows for stage in row.pipeline.rerank}
    assert settings == {(count, weight) for count in (10, 15) for weight in (0.3, 0.5, 0.7, 1.0)}
    reranker: Any = reranked.handle.now().reranker("fake-reranker", {"record": True})
    pairs = reranker.calls[0].inputs  # what comes after that measures time
    assert report.pairs == len(set(pairs)) == len(pairs)
    weighted = [row for row in rows if getattr(row.pipeline.fuse, "weights", {})]
    assert weighted, "rerankers are tried after fusions with weights, whose scores tie less"
    for row in [*weighted[::9], report.rows[-1]]:
        slack = 0.05 if is_server_client(reranked.client) else 0.02
        assert row.value == pytest.approx(served(reranked, row.pipeline, 30), abs=slack), row.pipeline


def test_a_budget_that_the_present_pipeline_exceeds_takes_the_best_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych_lab.tune.search.ASKED", 2)
    slow = {"rerank": [{"adapter": "fake-reranker", "candidates": 15, "delay": 0.5}]}
    with opened("memory:", search=slow, deaf={"adapter": "deaf"}, lexical=WORDY) as collection:
        report = tune_search(collection.handle, QUERIES, QRELS, budget=400.0)
    assert report.rows[report.present].milliseconds > 400 > report.rows[report.chosen].milliseconds
    assert (report.passed, report.fits) == (True, False)
    assert report.verdict.endswith("the best within the budget, which the present pipeline exceeds")


def test_reranker_scores_that_depend_on_other_candidates_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReranker, "independent", False)
    with opened("memory:", search=RERANK, dense=GOOD, lexical=WORDY) as collection:
        report = tune_search(collection.handle, QUERIES[:20], QRELS)
    assert (report.left_out, report.rerankers, report.pairs) == (("fake-reranker",), (), 0)
    assert not any(row.pipeline.rerank for row in report.rows)


def test_diversity_counts_on_neither_side_since_the_config_keeps_it() -> None:
    diverse = {"diversify": {"slot": "dense", "relevance": 0.1, "candidates": 30}}
    with opened("memory:", search=diverse, dense=GOOD, lexical=WORDY) as collection:
        present = tune_search(collection.handle, QUERIES[:20], QRELS).rows[-1]
        assert present.pipeline.diversify is None
        assert present.value == pytest.approx(served(collection, present.pipeline, 20), abs=0.02)


def test_parameters_that_find_something_else_are_tried(tmp_path: Path) -> None:
    storage = {"quantization": {"kind": "binary", "always_ram": True}}
    with opened(f"edge:{tmp_path / 'store'}", dense={**GOOD, "storage": storage}, lexical=WORDY) as collection:
        report = tune_search(collection.handle, QUERIES[:20], QRELS)
        tried = {repr(row.config()["params"]): row for row in report.rows if "params" in row.config()}
        assert "{'rescore': False}" in tried
        row = tried["{'rescore': False}"]
        assert row.value == pytest.approx(served(collection, row.pipeline, 20), abs=0.02)


def test_one_slot_leaves_nothing_to_choose() -> None:
    with opened("memory:", lexical=WORDY) as collection, pytest.raises(TuneError, match="nothing to choose between"):
        tune_search(collection.handle, QUERIES, QRELS)
    with (
        opened("memory:", dense=GOOD, lexical=WORDY) as collection,
        pytest.raises(TuneError, match="no query has"),
    ):
        tune_search(collection.handle, QUERIES, Qrels({"q0": {"1": 0}}))
