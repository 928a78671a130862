"""The gate's budget of seconds: it sizes the sample, which the report states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diptych.config.models import GateConfig
from diptych.evaluate import Qrels
from diptych.handle.snapshot import View
from diptych.swap.gate.answers import remembering
from diptych.swap.gate.gate import GateReport, Judged, run_gate
from diptych.types import Query

DENSE = {"adapter": "fake-dense"}
OTHER = {"adapter": "fake-dense", "seed": 5}
QUERIES = [Query(f"word{n} rare{3 * n} rare{5 * n + 1}", f"q{n}") for n in range(100)]


@pytest.fixture
def views(swapping: Callable[..., Any]) -> tuple[View, View]:
    old, new = swapping({"dense": DENSE}).to({"dense": OTHER})
    return old, new


def gate(views: tuple[View, View], seconds: float, judged: Judged | None = None) -> GateReport:
    """The gate by a clock that shows the texts that both encoders have encoded, as if each took a second."""
    encoders = [view.slots["dense"].encoder for view in views]
    clock = lambda: float(sum(encoder.encoded for encoder in encoders))  # noqa: E731
    return run_gate(*views, config=GateConfig(seconds=seconds), judged=judged, clock=clock)


def searched(report: GateReport) -> int:
    return report.known_items[0].documents


def test_a_budget_that_suffices_searches_the_whole_sample(views: tuple[View, View]) -> None:
    report = gate(views, 10_000)
    assert searched(report) == 120
    assert not any("swap.gate.seconds" in remark for remark in report.remarks)


def test_the_sample_stops_at_the_budget_and_the_report_says_so(views: tuple[View, View]) -> None:
    begin = sum(view.slots["dense"].encoder.encoded for view in views)
    report = gate(views, 160)  # each document costs four texts: its beginning and its middle, on both sides
    spent = sum(view.slots["dense"].encoder.encoded for view in views) - begin
    assert searched(report) == 40
    assert 160 <= spent < 220  # the canaries come on top
    assert "40 of 120 documents of the sample were searched within 160 s (swap.gate.seconds)" in report.remarks


def test_however_small_the_budget_some_documents_are_searched(views: tuple[View, View]) -> None:
    assert searched(gate(views, 1)) == 8


def test_judged_queries_are_drawn_at_random_within_the_budget(views: tuple[View, View]) -> None:
    judged = Judged(QUERIES, Qrels({query.id: {"d1": 1, "d2": 1} for query in QUERIES}), "P@5")
    report = gate(views, 60, judged)
    assert report.judged is not None
    assert report.judged.queries == 30
    assert "30 of 100 judged queries were asked within 60 s (swap.gate.seconds)" in report.remarks


def test_a_second_gate_on_remembered_answers_searches_the_same_documents(views: tuple[View, View]) -> None:
    old, new = remembering(views[0]), views[1]
    assert searched(gate((old, new), 160)) == searched(gate((old, new), 10_000)) == 40
