"""What is asked decides what comes back: batches, pages, filters, thresholds, payloads, rerankers, refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.errors import (
    AdapterOptionsError,
    PluginWarning,
    SearchError,
    UnknownAdapter,
)
from diptych.hookspecs import hookimpl
from diptych.protocols import Pair
from diptych.registry import Registry
from diptych.reports import SearchReport
from diptych.search import Dbsf, Diversify, Linear, Pipeline, Rerank, Rescore, Retrieve, Rrf, search, search_groups
from diptych.testing import FakeReranker, fakes_plugin
from diptych.types import Document, Floats, Hit
from named_server import require_feature

Open = Callable[..., Collection]
PAIR = Retrieve("dense", 30) + Retrieve("lexical", 40)
PIPELINES = [
    Pipeline((Retrieve("dense"),)),
    Pipeline((Retrieve("lexical"),)),
    PAIR >> Rrf(),
    PAIR >> Rrf(weights={"dense": 2.0}) >> Rescore("late", 25),
    PAIR >> Dbsf() >> Diversify("dense", 0.5, 30),
    PAIR >> Linear() >> Rescore("late", 25) >> Diversify("dense", 0.5, 22),
    PAIR >> Linear("zscore") >> Rerank("fake-reranker", 30),
    PAIR >> Rrf() >> Rescore("late", 30) >> Rerank("fake-reranker", 25) >> Rerank(FakeReranker(), 22),
]
EVEN = models.Filter(must=[models.FieldCondition(key="parity", match=models.MatchValue(value="even"))])


def shown(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 5)) for hit in hits]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_a_filter_holds_in_every_branch_so_that_candidates_are_not_wasted(
    filled: Collection, documents: list[Document], queries: list[str], pipeline: Pipeline
) -> None:
    few = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(lt=12))])
    for query in queries:
        (hits,) = search(filled.handle, [query], pipeline=pipeline, filter=few, limit=12)
        assert {hit.id for hit in hits} <= {f"d{n}" for n in range(12)}
        if "dense" in [branch.slot for branch in pipeline.retrieve]:
            assert len(hits) == 12


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_no_hit_lies_below_the_threshold_and_none_above_is_lost(
    filled: Collection, queries: list[str], pipeline: Pipeline
) -> None:
    whole = search(filled.handle, queries, pipeline=pipeline, limit=20)
    threshold = sorted(hit.score for hit in whole[0])[len(whole[0]) // 2]
    kept = search(filled.handle, queries, pipeline=pipeline, limit=20, score_threshold=threshold)
    # Local mode's arithmetic differs in the last digits from one call to the next on some processors.
    expected = [[hit for hit in hits if hit.score >= threshold] for hits in whole]
    assert list(map(shown, kept)) == list(map(shown, expected))
    assert 0 < len(kept[0]) < 20


@pytest.mark.parametrize("pipeline", [PIPELINES[0], PIPELINES[5], PIPELINES[6]], ids=repr)
def test_only_the_wanted_payload_comes_back(
    filled: Collection, documents: list[Document], queries: list[str], pipeline: Pipeline
) -> None:
    by_id = {document.id: document for document in documents}
    (all_keys,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=5)
    (some,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=5, with_payload=["n", "text"])
    (none,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=5, with_payload=False)
    assert [hit.document for hit in all_keys] == [by_id[hit.id] for hit in all_keys]
    assert [hit.document for hit in some] == [
        Document(hit.id, by_id[hit.id].text, metadata={"n": by_id[hit.id].metadata["n"]}) for hit in all_keys
    ]
    assert [hit.document for hit in none] == [Document(hit.id, "") for hit in all_keys]
    assert [hit.score for hit in none] == pytest.approx([hit.score for hit in all_keys])


def test_equal_ranks_come_in_the_same_order_every_time(opened: Open, tmp_path: Path) -> None:
    slots = {
        "dense": {"adapter": "fake-dense"},
        "lexical": {"adapter": "fake-sparse"},
        "late": {"adapter": "fake-multivector"},
    }
    collection = opened({"slots": slots})
    words = np.random.default_rng(3).choice([f"w{n}" for n in range(40)], size=(200, 12))
    documents = [Document(f"d{n}", " ".join(row)) for n, row in enumerate(words)]
    collection.populate(documents, report_path=tmp_path / "aside")
    pair = Retrieve("dense", 40) + Retrieve("lexical", 40)
    for pipeline in (
        pair >> Rrf(),
        pair >> Rrf(weights={"dense": 2.0, "lexical": 2.0}),
        pair >> Rrf() >> Rescore("dense", 20),
    ):
        orders = [search(collection.handle, ["w1 w2"], pipeline=pipeline, limit=20)[0] for _ in range(12)]
        assert len({tuple(hit.id for hit in hits) for hits in orders}) == 1


def test_without_a_pipeline_the_configs_is_run_with_its_limit(filled: Collection, queries: list[str]) -> None:
    pipeline = Pipeline.from_config(filled.handle.search_config, filled.handle.slots)
    assert search(filled.handle, queries) == search(filled.handle, queries, pipeline=pipeline, limit=10)


def test_a_cascade_reads_n_then_m_and_reports_each_stage(
    filled: Collection, queries: list[str], documents: list[Document]
) -> None:
    pipeline = PAIR >> Rrf() >> Rerank("fake-reranker", 20) >> Rerank("fake-reranker", 6)
    (first,) = search(filled.handle, queries[:1], pipeline=PAIR >> Rrf(), limit=20)
    (hits,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=6)
    scores = FakeReranker().predict([(queries[0], hit.document.text) for hit in first])
    best = sorted(zip(first, scores.tolist(), strict=True), key=lambda pair: -pair[1])[:6]
    assert [hit.id for hit in hits] == [hit.id for hit, _ in best]
    assert [hit.score for hit in hits] == [score for _, score in best]
    assert [dict(hit.stages) for hit in hits] == [
        {"rrf": hit.score, "fake-reranker": score, "fake-reranker#2": score} for hit, score in best
    ]


class Constant:
    """A reranker that finds all documents equally good."""

    max_length: int | None = None
    independent = True

    def __init__(self) -> None:
        self.pairs: list[list[Pair]] = []

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.pairs.append(list(pairs))
        return np.zeros(len(pairs), np.float32)


def test_equal_scores_of_a_reranker_keep_the_former_order(filled: Collection, queries: list[str]) -> None:
    reranker = Constant()
    before = search(filled.handle, queries, pipeline=PAIR >> Rrf(), limit=15)
    after = search(filled.handle, queries, pipeline=PAIR >> Rrf() >> Rerank(reranker, 15), limit=15)
    assert [[hit.id for hit in hits] for hits in after] == [[hit.id for hit in hits] for hits in before]
    assert [len(pairs) for pairs in reranker.pairs] == [15 * len(queries)]


def test_a_reranker_reads_what_the_encoders_read(opened: Open, tmp_path: Path) -> None:
    config = {
        "slots": {"dense": {"adapter": "fake-dense"}},
        "populate": {"input": ["title", "text"], "separator": " | "},
    }
    collection = opened(config)
    collection.populate([Document("a", "the text", "The title")], report_path=tmp_path / "aside")
    reranker = Constant()
    search(collection.handle, ["title"], pipeline=Retrieve("dense") >> Rerank(reranker), with_payload=False)
    assert reranker.pairs == [[("title", "The title | the text")]]


@pytest.mark.parametrize(
    ("adapter", "error", "said"),
    [
        ("fake-dense", AdapterOptionsError, "adapter 'fake-dense' cannot rerank"),
        ("fake-rerankr", UnknownAdapter, "no adapter is called 'fake-rerankr'"),
    ],
)
def test_what_is_no_reranker_is_named(filled: Collection, adapter: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        search(filled.handle, ["word1"], pipeline=Retrieve("dense") >> Rerank(adapter), limit=3)


@pytest.mark.parametrize(
    ("queries", "options", "text"),
    [
        ([], {}, "there is no query"),
        ("word1", {}, "queries are not a list\n.*str"),
        (["word1", " \n"], {}, "a query is empty\n.*query 1"),
        (["word1", 3], {}, "a query is not text\n.*query 1\n.*int"),
        ([None], {}, "a query is not text"),
        (["word1"], {"limit": 1_000_000, "pipeline": Retrieve("dense")}, "at most 100000"),
        (
            ["word1"],
            {"limit": 71, "pipeline": PAIR >> Rrf()},
            "limit 71 [+] offset 0\n.*at most 70\n.*raise the candidates",
        ),
        (["word1"], {"limit": 5, "offset": 18, "pipeline": PIPELINES[5]}, "limit 5 [+] offset 18\n.*at most 22"),
        (["word1"], {"pipeline": Pipeline((Retrieve("dnse"),))}, "names slot 'dnse'.*\n.*\n.*dense, lexical, late"),
        (["word1"], {"pipeline": PAIR}, "several slots need a fusion"),
        (["word1"], {"pipeline": Pipeline(())}, "retrieves nothing"),
        (["word1"], {"pipeline": PAIR >> Rrf() >> Diversify("late")}, "slot cannot diversify\n.*slot 'late'"),
        (
            ["word1"],
            {"filter": {"parity": "odd"}},
            'filter is not a Qdrant filter\n.*parity(.|\n)*where={"section": "mail"}',
        ),
        (["word1"], {"where": {"": 1}}, "a key of where is not usable"),
        (["word1"], {"where": {"n": None}}, "a value of where is not usable\n.*key 'n'\n.*None\n.*bounds such as"),
        (["word1"], {"where": {"n": []}}, "a value of where is not usable"),
        (["word1"], {"where": {"n": {"above": 3}}}, "a value of where(.|\n)*expected: bounds: gt, gte, lt, lte"),
        (["word1"], {"where": {"n": {"gt": 3, "lt": "4"}}}, "a value of where(.|\n)*numbers, or times as text"),
        (["word1"], {"where": {"n": {"gt": "soon"}}}, "a value of where(.|\n)*times such as 2026-11-27"),
        (
            ["word1"],
            {"pipeline": "denze"},
            "there is no pipeline 'denze'(.|\n)*'dense', 'lexical', 'late'(.|\n)*did you mean 'dense'",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(
    filled: Collection, queries: Any, options: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(SearchError, match=text):
        search(filled.handle, queries, **options)


def test_stop_words_alone_leave_the_lexical_branch_empty(opened: Open, tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "bm25"}}
    collection = opened({"slots": slots}, Registry(fakes_plugin))
    collection.populate([Document("a", "a cat"), Document("b", "the dog")], report_path=tmp_path / "aside")
    queries = ["the", "dog", "of and the"]
    alone, fused = Retrieve("lexical"), Retrieve("dense") + Retrieve("lexical") >> Rrf()
    assert [[hit.id for hit in hits] for hits in search(collection.handle, queries, pipeline=alone)] == [[], ["b"], []]
    assert [len(hits) for hits in search(collection.handle, queries, pipeline=fused)] == [2, 2, 2]
    assert [len(hits) for hits in search(collection.handle, queries, pipeline=Pipeline(fused.retrieve, Linear()))] == [
        2,
        2,
        2,
    ]
    with pytest.raises(SearchError, match="cannot rescore\n  where: slot 'lexical'\n  got: sparse\n  expected: multi"):
        search(collection.handle, queries, pipeline=Retrieve("dense") >> Rescore("lexical"))


def test_a_text_index_is_a_slot_like_others(opened: Open, documents: list[Document], tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "qdrant-text-index", "language": "none"}}
    collection = opened({"slots": slots}, Registry(fakes_plugin))
    require_feature(collection.client, "text_index")
    collection.populate(documents, report_path=tmp_path / "aside")
    words = {document.id: document.text.split() for document in documents}
    (hits,) = search(collection.handle, ["word9"], pipeline=Retrieve("lexical"), limit=100)
    assert {hit.id for hit in hits} == {identifier for identifier, found in words.items() if "word9" in found}
    fused = Retrieve("dense", 20) + Retrieve("lexical", 20) >> Rrf()
    (hits,) = search(collection.handle, ["word9 word3"], pipeline=fused, filter=EVEN)
    assert len(hits) == 10
    assert all(hit.document.metadata["parity"] == "even" for hit in hits)
    assert {key for hit in hits for key in hit.document.metadata} == {"parity", "n", "tags", "at"}


def test_euclidean_scores_are_negated_so_that_higher_is_better(
    opened: Open, documents: list[Document], queries: list[str], tmp_path: Path
) -> None:
    slots = {
        "near": {"adapter": "fake-dense", "similarity": "euclidean", "normalized": False},
        "dense": {"adapter": "fake-dense"},
    }
    collection = opened({"slots": slots})
    collection.populate(documents, report_path=tmp_path / "aside")
    slot = collection.handle.slots["near"]
    query = np.asarray(slot.encode("query", queries[:1])[0])
    vectors = slot.encode("document", [document.text for document in documents])
    expected = sorted((float(-np.linalg.norm(query - np.asarray(vector))) for vector in vectors), reverse=True)
    (hits,) = search(collection.handle, queries[:1], pipeline=Retrieve("near"), limit=20)
    assert [hit.score for hit in hits] == pytest.approx(expected[:20], rel=1e-4)
    (kept,) = search(
        collection.handle,
        queries[:1],
        pipeline=Retrieve("near"),
        limit=20,
        score_threshold=hits[4].score,
    )
    assert kept == hits[:5]
    pair = Retrieve("near", 20) + Retrieve("dense", 20)
    (fused,) = search(collection.handle, queries[:1], pipeline=pair >> Linear(weights={"dense": 0}), limit=20)
    assert [hit.id for hit in fused[:15]] == [hit.id for hit in hits[:15]]
    by_qdrant = pair >> Linear("zscore", {"dense": 0}, missing=-2)
    (fused,) = search(collection.handle, queries[:1], pipeline=by_qdrant, limit=20)
    assert [hit.id for hit in fused[:15]] == [hit.id for hit in hits[:15]]


class Listener:
    """A plugin that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[SearchReport] = []

    @hookimpl
    def diptych_after_search(self, report: SearchReport) -> None:
        self.reports.append(report)


class FailingListener:
    """A plugin that cannot bear to be told."""

    @hookimpl
    def diptych_after_search(self, report: SearchReport) -> None:
        raise RuntimeError("the disk of the log is full")


def test_plugins_are_told_what_ran_and_one_that_fails_costs_no_hit(opened: Open, tmp_path: Path) -> None:
    listener = Listener()
    registry = Registry(fakes_plugin, FailingListener(), listener, installed=False)
    collection = opened({"slots": {"dense": {"adapter": "fake-dense"}}}, registry)
    collection.populate([Document("a", "one", metadata={"kind": "x"})], report_path=tmp_path / "aside")
    reranked = Retrieve("dense") >> Rerank("fake-reranker")
    expected = r"diptych_after_search of plugin '.*FailingListener' failed: RuntimeError: the disk of the log is full"
    with pytest.warns(PluginWarning, match=expected):
        found, *_ = (
            search(collection.handle, ["one", "two"], pipeline=reranked),
            search_groups(collection.handle, ["one"], group_by="kind", pipeline=Retrieve("dense")),
            search_groups(collection.handle, ["one"], group_by="kind", pipeline=reranked),
        )
    assert [[hit.id for hit in hits] for hits in found] == [["a"], ["a"]]
    report, *of_groups = listener.reports
    assert (report.collection, report.queries) == (collection.name, 2)
    assert report.pipeline == "Retrieve('dense', 100) >> Rerank('fake-reranker', 50)"
    assert list(report.seconds) == ["encode", "retrieve", "rerank"]
    assert [list(own.seconds) for own in of_groups] == [["encode", "retrieve"], ["encode", "retrieve", "rerank"]]
