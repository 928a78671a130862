"""The gate with judgements: the interval of the paired difference decides, over all queries and within each slice.

The budget of seconds, which sizes the sample with judgements and without, follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from scipy import stats

from diptych.config.models import EvaluateConfig, GateConfig
from diptych.errors import EvaluationError
from diptych.evaluate import Qrels
from diptych.handle.view import View
from diptych.search import search
from diptych.swap.gate.answers import remembering
from diptych.swap.gate.gate import GateReport, Judged, run_gate
from diptych.swap.gate.judged import JudgedComparison
from diptych.types import Query

DENSE = {"adapter": "fake-dense"}
OTHER = {"adapter": "fake-dense", "seed": 5}
QUERIES = [Query(f"word{n} rare{3 * n} rare{5 * n + 1}", f"q{n}") for n in range(40)]


@pytest.fixture
def views(swapping: Callable[..., Any]) -> tuple[View, View]:
    """An encoder and another one, as good by itself."""
    old, new = swapping({"dense": DENSE}).to({"dense": OTHER})
    return old, new


def gate(views: tuple[View, View], judged: Judged | None, **config: Any) -> GateReport:
    return run_gate(*views, config=GateConfig(**{"seconds": 600, **config}), judged=judged)


def compared(report: GateReport) -> JudgedComparison:
    assert report.judged is not None
    return report.judged


def differing(views: tuple[View, View]) -> tuple[list[str], list[str], list[int]]:
    """The first hits of both views, and the queries that have others."""
    old, new = ([hits[0].id for hits in search(view, QUERIES, limit=1)] for view in views)
    return old, new, [row for row, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]


def judged_by(views: tuple[View, View], losses: int, wins: int | None, *, metric: str = "P@1") -> Judged:
    """Judgements by which the new view's first hit is wrong for `losses` queries, the old one's for `wins` or the rest.

    Of the other queries the first hits of both count as relevant.
    """
    old, new, rows = differing(views)
    wins = len(rows) - losses if wins is None else wins
    assert len(rows) >= losses + wins
    grades = {query.id: {old[row]: 1, new[row]: 1} for row, query in enumerate(QUERIES)}
    grades |= {QUERIES[row].id: {old[row]: 1} for row in rows[:losses]}
    grades |= {QUERIES[row].id: {new[row]: 1} for row in rows[losses : losses + wins]}
    return Judged(QUERIES, Qrels(grades), metric)


def test_the_same_answers_pass_with_the_exact_interval_of_their_number(swapping: Callable[..., Any]) -> None:
    views = swapping({"dense": DENSE}).to({"dense": {**DENSE, "delay": 0.0}})
    report = gate(views, judged_by(views, 0, 0, metric="nDCG@10"), margin=0)
    found = compared(report)
    assert report.outcome == "passed"
    assert (found.difference, found.changed, found.wins, found.losses, found.worst) == (0, 0, 0, 0, ())
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 40))
    assert found.old == found.new > 0.3
    assert found.verdict == "passed"
    assert found.sentence.endswith("[-0.0881, +0.0881] over 40 queries: the same answers to all of them")
    assert report.overlaps == ()
    assert report.known_items == ()


def test_the_interval_is_that_of_a_computation_by_hand(views: tuple[View, View]) -> None:
    found = compared(gate(views, judged_by(views, losses=6, wins=2)))
    assert (found.wins, found.ties, found.losses) == (2, 32, 6)
    assert found.difference == pytest.approx(-0.1)
    assert found.old == pytest.approx(38 / 40)
    assert found.new == pytest.approx(34 / 40)
    # The bootstrap's mean of three values is a multinomial count; Hesterberg's tail widens the percentiles.
    tail = float(stats.norm.cdf(-np.sqrt(40 / 39) * stats.t.ppf(0.975, 39)))
    counts = np.random.default_rng(1).multinomial(40, [6 / 40, 32 / 40, 2 / 40], size=200_000)
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / 40, [tail, 1 - tail])
    assert found.low == pytest.approx(low, abs=0.026)
    assert found.high == pytest.approx(high, abs=0.026)


def test_a_worse_encoder_is_stopped_with_its_figures(views: tuple[View, View]) -> None:
    report = gate(views, judged_by(views, losses=12, wins=1))
    found = compared(report)
    assert report.outcome != "passed"
    assert found.verdict == "worse"
    assert report.reasons == (found.sentence,)
    assert found.sentence.startswith("P@1 0.9750 -> 0.7000, difference -0.2750, 95% interval [-0.4")
    assert found.sentence.endswith("over 40 queries: worse by more than the margin of 0.02")
    assert len(found.worst) == 5
    assert all((loss.old, loss.new) == (1.0, 0.0) and loss.text.startswith("word") for loss in found.worst)
    read = json.loads(json.dumps(asdict(report), allow_nan=False))
    assert (read["judged"]["verdict"], read["outcome"]) == ("worse", "worse")


@pytest.mark.parametrize(("losses", "wins", "verdict"), [(3, 3, "passed"), (2, 3, "passed"), (3, 2, "worse")])
def test_the_number_of_queries_that_is_advised_decides(
    views: tuple[View, View], losses: int, wins: int, verdict: str
) -> None:
    judged = judged_by(views, losses=losses, wins=wins)
    few = compared(gate(views, judged))
    assert (few.verdict, few.needed is not None, few.high > 0) == ("undecided", True, True)
    assert few.sentence.endswith("too few queries for the margin of 0.02")
    assert gate(views, judged, margin=0.25).outcome == "passed"
    rows = [7 * n % 40 for n in range(few.needed or 0)]  # in an order that repeats, as evenly as may be
    many = [replace(QUERIES[row], id=f"q{row} {n}") for n, row in enumerate(rows)]
    grades = {query.id: judged.qrels.judgements[query.id.split()[0]] for query in many}
    assert compared(gate(views, Judged(many, Qrels(grades), "P@1"))).verdict == verdict


def test_a_lower_end_just_at_the_margin_passes(views: tuple[View, View]) -> None:
    judged = judged_by(views, losses=4, wins=2)
    low = compared(gate(views, judged)).low
    assert gate(views, judged, margin=-low).outcome == "passed"
    assert gate(views, judged, margin=-low - 1e-6).outcome != "passed"


UNDECIDED: dict[str, dict[str, dict[str, int]]] = {
    "neither pipeline finds a relevant document for any of 40 judged queries: do the judgements belong to this "
    "collection?": {query.id: {"elsewhere": 1} for query in QUERIES},
    "judged queries with a relevant document: 1; nothing can be compared with fewer than 2": {
        "q0": {"d0": 1},
        "q1": {"d0": 0},
    },
}


@pytest.mark.parametrize("reason", UNDECIDED)
def test_judgements_that_cannot_tell_let_nothing_pass(views: tuple[View, View], reason: str) -> None:
    report = gate(views, Judged(QUERIES, Qrels(UNDECIDED[reason])))
    assert (compared(report).verdict, report.reasons) == ("undecided", (reason,))


def test_queries_that_cannot_tell_are_left_out_and_said(views: tuple[View, View]) -> None:
    judged = judged_by(views, losses=6, wins=2)
    alone = compared(gate(views, judged))
    strange: dict[str, dict[str, int]] = {f"x{n}": {"elsewhere": 1} for n in range(180)}  # would narrow the interval
    grades = {**judged.qrels.judgements, **strange, "without text": {"d1": 1}, "irrelevant": {"d1": 0}}
    names = ("irrelevant", "unjudged", *strange)
    more = Judged([*QUERIES, *(Query("word1", name) for name in names)], Qrels(grades), "P@1")
    found = compared(gate(views, more))
    assert (found.queries, found.difference, found.low) == (alone.queries, alone.difference, alone.low)
    assert "1 judged queries have no text and are left out" in found.remarks
    assert "1 judged queries have no relevant document and are left out" in found.remarks
    here = "180 judged queries have no relevant document in this collection and are left out"
    assert here in found.remarks


def test_a_slot_that_is_added_is_measured_through_the_whole_pipeline(swapping: Callable[..., Any]) -> None:
    noise, lexical = {"adapter": "noise"}, {"adapter": "fake-calibrated", "uses_idf": True}
    both = {"retrieve": {"dense": 50, "lexical": 50}}
    old, new = swapping({"dense": noise}).to({"dense": noise, "lexical": lexical}, search=both)
    best = [hits[0].id for hits in search(new, QUERIES, limit=1)]
    judged = Judged(QUERIES, Qrels({query.id: {found: 1} for query, found in zip(QUERIES, best, strict=True)}))
    better, worse = gate((old, new), judged), gate((new, old), judged)
    assert compared(better).low > 0
    assert better.outcome == "passed"
    assert compared(worse).verdict == "worse"
    assert worse.canaries == ()


def test_an_old_encoder_that_is_gone_counts_as_one_that_finds_nothing(
    swapping: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = swapping({"dense": {"adapter": "retired"}}).to({"dense": DENSE})
    judged = judged_by(views, losses=0, wins=0)
    monkeypatch.setattr(type(views[0].slots["dense"].encoder), "retired", True)
    report = gate(views, judged)
    found = compared(report)
    assert (found.old, found.new, found.wins) == (0, 1, 40)
    assert report.outcome == "passed"
    assert any(remark.startswith("the old pipeline answers nothing") for remark in report.remarks)


def test_judgements_are_read_from_what_the_config_names(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "some words"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    named: Mapping[str, Any] = {"queries": str(tmp_path / "queries.jsonl"), "qrels": str(tmp_path / "qrels.tsv")}
    found = Judged.of(EvaluateConfig(**named, metrics=["MRR@10", "P@1"]))
    assert found is not None
    assert (found.queries, found.metric) == ([Query("some words", "q1")], "MRR@10")
    assert found.qrels.relevant("q1") == {"d1"}
    assert Judged.of(EvaluateConfig()) is None


@pytest.mark.parametrize(("given", "missing"), [("queries", "qrels"), ("qrels", "queries")])
def test_queries_and_qrels_go_together(given: str, missing: str) -> None:
    config = EvaluateConfig.model_validate({given: "somewhere"})
    with pytest.raises(EvaluationError, match=rf"evaluate\.{given} is named without evaluate\.{missing}"):
        Judged.of(config)


# slices


def test_the_worst_slice_stops_what_is_better_on_average(views: tuple[View, View]) -> None:
    judged, losers = judged_by(views, 10, None), differing(views)[2][:10]
    kinds = ["spoken" if n in losers else "typed" for n in range(len(QUERIES))]
    spoken = [replace(query, metadata={"kind": kind}) for query, kind in zip(QUERIES, kinds, strict=True)]
    judged = replace(judged, queries=spoken)
    assert gate(views, judged).outcome == "passed"
    report = gate(views, judged, slices=["kind"])
    assert compared(report).verdict == "passed"
    worst = compared(report).slices[0]
    assert (str(worst.slice), worst.mean) == ("kind spoken", -1.0)
    assert report.outcome == "worse"
    assert report.reasons == (
        "P@1 of kind spoken is worse by 1.0000 over 10 queries, interval [-1.0000, -0.2904], "
        "more than the margin of 0.02",
    )


def test_slices_come_from_the_length_and_script_of_a_query_and_from_its_relevant_document(
    views: tuple[View, View],
) -> None:
    view = views[0]
    view.client.set_payload(view.name, {"section": "mail"}, points=models.Filter())
    report = gate(views, judged_by(views, 0, 0), margin=0.9, slices=["length", "language", "section"])
    found = {str(part.slice) for part in compared(report).slices}
    assert found == {"length 3 to 5 words", "language latin", "section mail"}


# the budget


def budgeted(views: tuple[View, View], seconds: float, judged: Judged | None = None) -> GateReport:
    """The gate by a clock that shows the texts that both encoders have encoded, as if each took a second."""
    encoders = [view.slots["dense"].encoder for view in views]
    clock = lambda: float(sum(encoder.encoded for encoder in encoders))  # noqa: E731
    return run_gate(*views, config=GateConfig(seconds=seconds), judged=judged, clock=clock)


@pytest.mark.parametrize(("seconds", "searched"), [(10_000, 120), (160, 40), (1, 8)])
def test_the_sample_stops_at_the_budget_but_some_documents_are_searched(
    views: tuple[View, View], seconds: int, searched: int
) -> None:
    encoders = [view.slots["dense"].encoder for view in views]
    begin = sum(encoder.encoded for encoder in encoders)
    report = budgeted(views, seconds)  # each document costs four texts: its beginning and its middle, on both sides
    spent = sum(encoder.encoded for encoder in encoders) - begin
    assert report.known_items[0].documents == searched
    assert 4 * searched <= spent < 4 * searched + 60  # the canaries come on top
    said = f"{searched} of 120 documents of the sample were searched within {seconds} s (swap.gate.seconds)"
    assert (said in report.remarks) == (searched < 120)


def test_judged_queries_are_drawn_at_random_within_the_budget(views: tuple[View, View]) -> None:
    queries = [Query(f"word{n} rare{3 * n} rare{5 * n + 1}", f"q{n}") for n in range(100)]
    judged = Judged(queries, Qrels({query.id: {"d1": 1, "d2": 1} for query in queries}), "P@5")
    report = budgeted(views, 60, judged)
    assert compared(report).queries == 30
    assert "30 of 100 judged queries were asked within 60 s (swap.gate.seconds)" in report.remarks


def test_a_second_gate_on_remembered_answers_searches_the_same_documents(views: tuple[View, View]) -> None:
    old, new = remembering(views[0]), views[1]
    found = [budgeted((old, new), seconds).known_items[0].documents for seconds in (160, 10_000)]
    assert found == [40, 40]
