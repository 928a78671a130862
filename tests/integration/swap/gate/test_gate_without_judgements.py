"""The gate without judgements: broken encoders are stopped, equal and merely different ones are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from diptych.config.models import GateConfig
from diptych.handle.view import View
from diptych.swap.gate.gate import GateReport, run_gate
from diptych.swap.vectors import Coverage, coverage
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats

DENSE = {"adapter": "fake-dense"}
OTHER = {"adapter": "fake-dense", "seed": 5}
LEXICAL = {"adapter": "fake-calibrated", "uses_idf": True}
LOST = "fewer documents are found"
BOTH = {"retrieve": {"dense": 50, "lexical": 50}}


def gate(views: tuple[View, View], **config: Any) -> GateReport:
    return run_gate(*views, config=GateConfig(**{"seconds": 600, **config}), judged=None)


def test_an_equal_encoder_passes_and_answers_the_same(swapping: Callable[..., Any]) -> None:
    report = gate(swapping({"dense": DENSE}).to({"dense": {**DENSE, "delay": 0.0}}))
    assert report.outcome == "not measured"
    assert report.reasons == ()
    item = report.known_items[0]
    assert (item.documents, item.difference, item.losses, item.lost) == (120, 0.0, 0, ())
    assert item.low == -item.high == pytest.approx(-(1 - 0.0125 ** (1 / 120)))  # exact: not of zero width
    assert [(overlap.of, overlap.mean, overlap.lowest) for overlap in report.overlaps] == [("pipeline", 1.0, 1.0)]
    assert [canary.likeness for canary in report.canaries] == [pytest.approx(1.0)]
    assert report.coverage == (Coverage("dense.2", 120, 0),)
    assert report.samples == ()  # no answer differs
    expected = "not measured: no judgements; 0% of the first 10 hits change, with 120 documents as queries"
    assert report.sentence == expected


@pytest.mark.parametrize(
    ("adapter", "reasons"),
    [
        ("noise", [f"{LOST} by title or first sentence: 99.2% -> ", f"{LOST} by eight words from the middle: "]),
        ("constant", ["slot 'dense': stored vectors hardly differ: mean cosine 1.0"]),
        ("two", ["slot 'dense': only 2 of 120 stored vectors are different", LOST, LOST]),
        ("zero", ["slot 'dense': 120 of 120 stored vectors are empty", LOST, LOST]),
    ],
)
def test_a_broken_encoder_is_stopped(swapping: Callable[..., Any], adapter: str, reasons: Sequence[str]) -> None:
    report = gate(swapping({"dense": DENSE}).to({"dense": {"adapter": adapter}}))
    assert report.outcome == "worse"
    assert len(report.reasons) == len(reasons)
    assert all(found.startswith(expected) for found, expected in zip(report.reasons, reasons, strict=True))
    assert report.sentence == "worse: " + "; ".join(report.reasons)


def test_an_encoder_that_finds_far_less_is_stopped_and_one_that_finds_a_little_less_is_not(
    swapping: Callable[..., Any],
) -> None:
    filled = swapping({"dense": DENSE})
    blunt, coarse = (gate(filled.to({"dense": {**DENSE, "dimension": size}})) for size in (4, 24))
    assert len(blunt.known_items) >= 2
    assert len(coarse.known_items) >= 2
    assert blunt.known_items[1].new < 0.7 * blunt.known_items[1].old
    assert blunt.outcome == "worse"
    assert 0.75 * coarse.known_items[1].old < coarse.known_items[1].new < coarse.known_items[1].old
    assert coarse.outcome == "not measured"
    assert 0 < len(coarse.samples) == len({sample.query for sample in coarse.samples})
    assert all(sample.old != sample.new for sample in coarse.samples)


def test_overlap_and_known_items_are_those_of_brute_force_and_become_json(swapping: Callable[..., Any]) -> None:
    filled = swapping({"dense": DENSE})
    report = gate(filled.to({"dense": OTHER}))
    read = json.loads(json.dumps(asdict(report), allow_nan=False))
    assert (read["outcome"], read["known_items"][0]["documents"]) == ("not measured", 120)
    assert [(len(sample["old"]), len(sample["new"])) for sample in read["samples"]] == [(3, 3)] * 5
    texts = [document.text for document in filled.documents]
    firsts = [text.split(". ")[0] + "." for text in texts]
    sides = [neighbours(FakeDenseEncoder(seed=seed), firsts, texts, own=True) for seed in (0, 5)]
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(*sides, strict=True)]
    assert report.overlaps[0].mean == pytest.approx(np.mean(shares))
    assert report.overlaps[0].lowest == pytest.approx(min(shares))
    words = [text.split()[:100] for text in texts]
    middles = [" ".join(found[(len(found) - 8) // 2 :][:8]) for found in words]
    for asked, known in ((firsts, report.known_items[0]), (middles, report.known_items[1])):
        assert known is not None
        rates = (known_rate(FakeDenseEncoder(seed=seed), asked, texts) for seed in (0, 5))
        assert (known.old, known.new) == tuple(rates)


def known_rate(encoder: FakeDenseEncoder, queries: list[str], texts: list[str]) -> float:
    found = neighbours(encoder, queries, texts, own=False)
    return float(np.mean([row in best for row, best in enumerate(found)]))


def neighbours(encoder: FakeDenseEncoder, queries: list[str], texts: list[str], *, own: bool) -> list[list[int]]:
    """The ten nearest documents of each query; its own is left out where `own` is set."""
    scores: Floats = encoder.encode_query(queries) @ encoder.encode_document(texts).T
    if own:
        np.fill_diagonal(scores, -1)
    return [np.argsort(-row)[:10].tolist() for row in scores]


@pytest.mark.parametrize(
    ("slot", "vector"),
    [
        ({"adapter": "fake-dense", "seed": 2}, "new.1"),
        (LEXICAL, "new.1"),
        ({"adapter": "fake-multivector"}, "new.1"),
        ({"adapter": "qdrant-text-index", "language": "none"}, "_new"),
    ],
)
def test_coverage_counts_points_without_a_vector_of_any_kind(
    swapping: Callable[..., Any], slot: Mapping[str, Any], vector: str
) -> None:
    filled = swapping({"dense": DENSE})
    _, new = filled.to({"dense": DENSE, "new": slot}, skip=4)
    generation = new.slots["new"].generation
    assert coverage(filled.handle.client, "c", generation) == Coverage(vector, 120, 4)


@pytest.mark.parametrize("loaded", [True, False])
def test_an_encoder_that_changed_since_it_filled_the_vectors_is_stopped_before_it_searches(
    swapping: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    filled = swapping({"dense": DENSE})
    old, new = filled.to({"dense": {"adapter": "moody"}})
    moody = type(filled.handle.registry.create("moody", {}, where="a test"))
    if loaded:
        new.slots["dense"].load()
    monkeypatch.setattr(moody, "moved", True)
    report = gate((old, new))
    assert len(report.reasons) == 1
    assert report.reasons[0].startswith("slot 'dense': the encoder no longer makes the vectors it made (canary cosine")
    assert [canary.likeness for canary in report.canaries] == [None]
    assert report.known_items == ()
    assert report.remarks == ("the searches were left out, because an encoder is not the one that filled its vector",)


def test_a_collection_without_texts_is_judged_by_coverage_and_vectors_alone(
    swapping: Callable[..., Any],
) -> None:
    filled = swapping({"dense": DENSE})
    client = filled.handle.client
    points = [record.id for record in client.scroll("c", limit=200)[0]]
    views = filled.to({"dense": {"adapter": "zero"}})
    client.delete_payload("c", ["text"], points=points)
    report = gate(views)
    assert report.known_items == ()
    assert report.overlaps == ()
    assert "no point has a text: nothing was searched" in report.remarks
    assert report.reasons == ("slot 'dense': 120 of 120 stored vectors are empty",)


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        (DENSE, ["no judgements, and no answers of both pipelines could be compared; swap.gate.unmeasured allows 10%"]),
        ({"adapter": "noise"}, ["9.2% of 120 documents are found by title or first sentence, at least 70% must be"]),
    ],
)
def test_a_swap_away_from_an_encoder_that_is_gone_is_judged_by_the_new_one_alone(
    swapping: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, after: Mapping[str, Any], reasons: list[str]
) -> None:
    filled = swapping({"dense": {"adapter": "retired"}})
    views = filled.to({"dense": after})
    monkeypatch.setattr(type(views[0].slots["dense"].encoder), "retired", True)
    report = gate(views)
    assert list(report.reasons) == reasons
    assert report.overlaps == ()
    assert len(report.known_items) >= 2
    assert report.known_items[0].old == 0
    gone = "the old pipeline answers nothing, so the new one is measured alone: the endpoint answers 410 Gone"
    assert report.remarks[0] == gone
    assert "neighbours in common" not in report.sentence


def test_where_all_documents_are_among_the_first_ten_the_sentence_says_how_many_first_hits_change(
    swapping: Callable[..., Any],
) -> None:
    report = gate(swapping({"dense": DENSE}, size=6).to({"dense": OTHER}))
    assert report.changed == 0
    assert 0 < report.overlaps[0].first < 1
    share = f"{1 - report.overlaps[0].first:.0%}"
    assert (
        f"0% of the first 10 hits change, but {share} of the first hits, with 6 documents as queries" in report.sentence
    )


def test_a_changed_slot_is_tested_alone_beside_one_that_finds_everything(swapping: Callable[..., Any]) -> None:
    filled = swapping({"dense": DENSE, "lexical": LEXICAL}, search=BOTH)
    report = gate(filled.to({"dense": {"adapter": "noise"}, "lexical": LEXICAL}, search=BOTH))
    by_slot = {(item.of, item.by): item for item in report.known_items}
    assert len(by_slot) == 4
    for (of, _), item in by_slot.items():
        assert item.old > 0.95
        assert (item.new > 0.95) == (of == "pipeline"), "fused, words of its own find a document"
    assert report.outcome == "worse"
    assert [reason.split(":")[0] for reason in report.reasons] == ["slot 'dense' alone"] * 2


TOKENS, WIDER = {"adapter": "fake-multivector"}, {"adapter": "fake-multivector", "dimension": 24}
WORDS = {"adapter": "qdrant-text-index", "language": "none"}
ALONE, RESCORED = (
    {"retrieve": {"lexical": 50}},
    {"retrieve": {"dense": 50}, "rescore": {"slot": "late", "candidates": 50}},
)
TWO = {"dense": DENSE, "lexical": LEXICAL}
SWAPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, list[str]]] = {
    "sparse": ({"lexical": {"adapter": "fake-sparse"}}, {"lexical": LEXICAL}, None, ["pipeline"]),
    "multivector": ({"late": TOKENS}, {"late": WIDER}, None, ["pipeline"]),
    "text index": (TWO, {**TWO, "lexical": WORDS}, BOTH, ["pipeline", "lexical"]),
    "one of two": (TWO, {**TWO, "dense": OTHER}, BOTH, ["pipeline", "dense"]),
    "added": ({"dense": DENSE}, TWO, BOTH, ["pipeline"]),
    "dropped": (TWO, {"lexical": LEXICAL}, ALONE, ["pipeline"]),
    "rescorer": ({"dense": DENSE, "late": TOKENS}, {"dense": DENSE, "late": WIDER}, RESCORED, ["pipeline"]),
}


@pytest.mark.parametrize("case", SWAPS)
def test_whole_pipelines_are_compared_and_slots_of_both(swapping: Callable[..., Any], case: str) -> None:
    before, after, pipeline, compared = SWAPS[case]
    report = gate(swapping(before, size=50).to(after, search=pipeline))
    assert report.outcome == "not measured"
    assert [overlap.of for overlap in report.overlaps] == compared
    assert len(report.known_items) >= 2
    assert report.known_items[0].new > 0.95
    changed = [name for name in after if before.get(name) != after[name]]
    assert [canary.slot for canary in report.canaries] == [found.slot for found in report.vectors] == changed
    assert report.overlaps[0].mean < 1 or not changed
