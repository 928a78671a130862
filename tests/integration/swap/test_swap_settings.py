"""Search settings and storage change behind the gate, too: what answers worse does not become live."""

from __future__ import annotations

import random
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from deaf_encoder import BringsDeaf
from diptych import Collection
from diptych.errors import GateFailed
from diptych.evaluate import Qrels
from diptych.metadata.store import APPLY
from diptych.swap import ApplyOptions, Judged
from diptych.swap.vectors import StorageTrial
from diptych.types import Document, Query
from swaps import Make, Open

GOOD: dict[str, Any] = {"adapter": "fake-dense", "dimension": 64}
SLOTS: dict[str, Any] = {"good": GOOD, "bad": {"adapter": "deaf"}}
BOTH, ALONE = {"retrieve": {"good": 50, "bad": 50}}, {"retrieve": {"bad": 50}}
GOOD_ALONE: dict[str, Any] = {"retrieve": {"good": 50}}
BINARY: dict[str, Any] = {"quantization": {"kind": "binary"}}


def corpus(size: int) -> list[Document]:
    chance = random.Random(1)
    words = [f"word{n}" for n in range(60)]
    return [Document(str(n), f"{' '.join(chance.sample(words, 8))} number{n}") for n in range(size)]


def judged(size: int) -> Judged:
    queries = [Query(document.text, document.id) for document in corpus(size)]
    return Judged(queries, Qrels({query.id: {query.id: 1} for query in queries}))


@pytest.fixture
def config(config: Make) -> Make:
    """Configs whose gate looks at 40 documents."""

    def made(slots: Any, **sections: Any) -> Any:
        gate = {"sample": 40, "unmeasured": 1, **sections.pop("gate", {})}
        return config(slots, swap={"gate": gate}, **sections)

    return made


@pytest.fixture
def filled(client: QdrantBase, config: Make, opened: Open) -> Collection:
    """A collection of 60 documents that is searched by both slots."""
    found = opened(client, config(SLOTS, search=BOTH), BringsDeaf())
    found.populate(corpus(60))
    return found


def stored(found: Collection) -> Any:
    return (found.handle.read().search or {})["retrieve"]


# search settings


def test_a_far_worse_leg_alone_does_not_replace_the_hybrid_unless_the_gate_is_ignored(
    filled: Collection, config: Make
) -> None:
    before = [hit.id for hit in filled.search("number7")]
    with pytest.raises(GateFailed, match="the gate keeps the old settings: worse") as no:
        filled.apply(config(SLOTS, search=ALONE))
    assert "fewer documents are found by title or first sentence: " in no.value.got
    assert no.value.do == "restore the config; or cut over anyway: diptych apply --ignore-gate"
    assert stored(filled) == BOTH["retrieve"]
    assert [hit.id for hit in filled.search("number7")] == before
    assert [event.what for event in filled.handle.read().history] == ["created"]
    with pytest.raises(GateFailed, match="fewer documents are found by"):
        filled.apply(config(SLOTS, search={**BOTH, "score_threshold": 1e6}))
    measured = filled.apply(config(SLOTS, search=GOOD_ALONE), ApplyOptions(cut_over=False))
    assert (measured.outcome, measured.gate is not None, stored(filled)) == ("measured", True, BOTH["retrieve"])
    report = filled.apply(config(SLOTS, search=ALONE), ApplyOptions(ignore_gate=True))
    assert (report.outcome, report.gate and report.gate.outcome) == ("changed settings", "worse")
    assert stored(filled) == ALONE["retrieve"]


def test_judgements_decide_where_there_are_some(filled: Collection, config: Make) -> None:
    with pytest.raises(GateFailed, match="worse by more than the margin") as no:
        filled.apply(config(SLOTS, search=ALONE), ApplyOptions(judged=judged(60)))
    report: Any = no.value.context["report"]
    assert report.judged.low < -0.02
    report = filled.apply(config(SLOTS, search={"retrieve": {"good": 50}}), ApplyOptions(judged=judged(60)))
    assert (report.outcome, report.gate.outcome) == ("changed settings", "passed")
    assert filled.handle.read().history[-1].gate.startswith("passed: nDCG@10")


def test_a_populate_with_edited_search_settings_leaves_those_of_the_collection(
    filled: Collection, client: QdrantBase, config: Make, opened: Open
) -> None:
    opened(client, config(SLOTS, search=ALONE), BringsDeaf()).populate(corpus(70))
    assert stored(filled) == BOTH["retrieve"]
    assert filled.plan(config(SLOTS, search=ALONE)).search


def test_settings_of_an_empty_collection_change_without_a_gate(
    filled: Collection, client: QdrantBase, config: Make
) -> None:
    client.delete("c", models.Filter())
    assert filled.apply(config(SLOTS, search=ALONE)).outcome == "changed settings"


# storage


def params_of(client: QdrantBase, vector: str) -> models.VectorParams:
    found = client.get_collection("c").config.params.vectors
    assert isinstance(found, dict)
    return found[vector]


@pytest.fixture
def dense(edge: QdrantBase, config: Make, opened: Open) -> Collection:
    """A collection whose vectors lose most neighbours when each number becomes one bit."""
    found = opened(edge, config({"dense": GOOD}))
    found.populate(corpus(300))
    return found


def test_storage_that_loses_neighbours_is_put_back_unless_judgements_let_it_pass(
    dense: Collection, edge: QdrantBase, config: Make
) -> None:
    before = [(hit.id, hit.score) for hit in dense.search("word1 word2 word3")]
    with pytest.raises(GateFailed, match="the gate keeps the old storage settings: worse") as no:
        dense.apply(config({"dense": {**GOOD, "storage": BINARY}}))
    assert "of the first 10 that the same vectors gave before are still found" in no.value.got
    assert params_of(edge, "dense.1").quantization_config is None
    assert [(hit.id, hit.score) for hit in dense.search("word1 word2 word3")] == before
    assert dense.handle.read().live.slots["dense"].storage == {}
    assert APPLY not in (edge.get_collection("c").config.metadata or {})
    report = dense.apply(config({"dense": {**GOOD, "storage": BINARY}}), ApplyOptions(judged=judged(300)))
    assert (report.outcome, report.gate is not None and report.gate.judged is not None) == ("changed settings", True)
    assert params_of(edge, "dense.1").quantization_config is not None


def test_no_cut_over_measures_storage_and_puts_it_back(dense: Collection, edge: QdrantBase, config: Make) -> None:
    scalar = {"quantization": {"kind": "scalar"}, "hnsw": {"m": 4}, "on_disk": True}
    report = dense.apply(config({"dense": {**GOOD, "storage": scalar}}), ApplyOptions(cut_over=False))
    assert (report.outcome, report.gate and report.gate.reasons) == ("measured", ())
    params = params_of(edge, "dense.1")
    assert (params.quantization_config, params.on_disk) == (None, False)
    assert params.hnsw_config is not None
    assert params.hnsw_config.m == edge.get_collection("c").config.hnsw_config.m


def test_a_graph_setting_that_the_config_names_no_more_goes_back_to_the_default(
    dense: Collection, edge: QdrantBase, config: Make
) -> None:
    dense.apply(config({"dense": {**GOOD, "storage": {"hnsw": {"m": 4}}}}))
    assert dense.apply(config({"dense": GOOD})).outcome == "changed settings"
    own = params_of(edge, "dense.1").hnsw_config
    assert own is not None
    assert own.m == edge.get_collection("c").config.hnsw_config.m


def test_a_swap_that_ruins_the_storage_of_another_slot_does_not_cut_over(
    edge: QdrantBase, config: Make, opened: Open
) -> None:
    second = {**GOOD, "seed": 5}
    found = opened(edge, config({"dense": GOOD, "second": second}, search={"retrieve": {"dense": 100}}))
    found.populate(corpus(300))
    ruined = {"dense": {**GOOD, "storage": BINARY}, "second": {**second, "seed": 6}}
    with pytest.raises(GateFailed, match="storage settings"):
        found.apply(config(ruined, search={"retrieve": {"dense": 100}}))
    assert params_of(edge, "dense.1").quantization_config is None
    assert found.rollback().outcome == "abandoned"


@pytest.mark.slow
@pytest.mark.parametrize("then", ["apply", "rollback", "finish"])
def test_storage_that_a_kill_left_on_trial_is_put_back_by_whoever_comes_next(
    dense: Collection, edge: QdrantBase, config: Make, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    dense.apply(config({"dense": GOOD, "more": {**GOOD, "seed": 3}}, search={"retrieve": {"dense": 100}}))
    dense.finish() if then == "apply" else None
    wanted = {"dense": {**GOOD, "storage": BINARY}, "more": {**GOOD, "seed": 3}}
    with monkeypatch.context() as patch:
        patch.setattr(StorageTrial, "put_back", lambda _: None)
        with pytest.raises(GateFailed):
            dense.apply(config(wanted, search={"retrieve": {"dense": 100}}))
    assert params_of(edge, "dense.1").quantization_config is not None
    if then == "apply":
        dense.apply(config({"dense": GOOD, "more": {**GOOD, "seed": 3}}, search={"retrieve": {"dense": 100}}))
    else:
        getattr(dense, then)()
    assert params_of(edge, "dense.1").quantization_config is None
    assert APPLY not in (edge.get_collection("c").config.metadata or {})


# score thresholds


CUT = {"retrieve": {"good": 50}, "score_threshold": 0.8}


@pytest.fixture
def cut(edge: QdrantBase, config: Make, opened: Open) -> Collection:
    """Sixty documents; each query's own document scores 1, others less than .8."""
    found = opened(edge, config(SLOTS, search=CUT), BringsDeaf())
    found.populate(corpus(60))
    return found


def threshold_of(found: Collection) -> Any:
    return (found.handle.read().search or {})["score_threshold"]


def test_a_threshold_that_stays_while_the_scores_change_is_named_as_stale_until_it_is_another(
    cut: Collection, config: Make
) -> None:
    """RRF's scores are near .02: the old threshold drops every hit."""
    fused = {**CUT, "retrieve": {"good": 50, "bad": 50}, "fuse": {"kind": "rrf"}}
    stale = "search.score_threshold 0.8 is stale: it was chosen for other scores, and may hide every hit"
    assert any(stale in warning for warning in cut.plan(config(SLOTS, search=fused)).warnings)
    for options in (None, ApplyOptions(judged=judged(60))):
        with pytest.raises(GateFailed, match=stale):
            cut.apply(config(SLOTS, search=fused), options)
    assert cut.status().stale == ""
    other = {**SLOTS, "good": {**GOOD, "seed": 7}}
    report = cut.apply(config(other, search=CUT), ApplyOptions(ignore_gate=True))
    assert any(warning.startswith(stale) for warning in report.display().warnings)
    assert cut.status().stale.startswith(stale)
    cut.rollback()
    assert cut.status().stale == "", "the old scores are back"
    cut.rollback()
    cut.finish()
    assert cut.status().stale.startswith(stale)
    cut.apply(config(other, search=fused), ApplyOptions(gate=False))
    assert (threshold_of(cut), cut.status().stale[:29]) == (0.8, "search.score_threshold 0.8 is")
    cut.apply(config(other, search={**fused, "score_threshold": 0.01}), ApplyOptions(gate=False))
    assert cut.status().stale == ""


def test_a_threshold_that_the_config_changes_itself_or_whose_scores_stay_is_left_alone(
    cut: Collection, config: Make
) -> None:
    own = cut.apply(config(SLOTS, search={**CUT, "score_threshold": 0.7}), ApplyOptions(judged=judged(60)))
    deeper = {**CUT, "score_threshold": 0.7, "params": {"hnsw_ef": 64}}
    same = cut.apply(config(SLOTS, search=deeper), ApplyOptions(judged=judged(60)))
    assert not any("score_threshold" in sentence for sentence in (*own.warnings, *same.warnings))
    assert threshold_of(cut) == 0.7
