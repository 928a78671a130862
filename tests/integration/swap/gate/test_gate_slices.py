"""The gate's slices, its limit on the time of a query, and what it says of an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from diptych.config.models import GateConfig
from diptych.evaluate import Qrels
from diptych.handle.snapshot import View
from diptych.search import search
from diptych.swap.gate.gate import GateReport, Judged, run_gate
from diptych.types import Query

DENSE = {"adapter": "fake-dense"}
OTHER = {"adapter": "fake-dense", "seed": 5}
SLOW = {**DENSE, "delay": 0.02}
QUERIES = [Query(f"word{n} rare{3 * n} rare{5 * n + 1}", f"q{n}") for n in range(40)]


def gate(views: Sequence[View], judged: Judged | None, **config: Any) -> GateReport:
    old, new = views
    return run_gate(old, new, config=GateConfig(**{"seconds": 600, **config}), judged=judged)


def first_hits(views: Sequence[View]) -> list[list[str]]:
    return [[hits[0].id for hits in search(view, QUERIES, limit=1)] for view in views]


def loses_for(views: Sequence[View], losers: Sequence[int], queries: Sequence[Query] = QUERIES) -> Judged:
    """By `P@1` the new view loses `losers`, wins twice as many others, and equals the old one elsewhere."""
    old, new = first_hits(views)
    differing = [n for n in range(len(QUERIES)) if old[n] != new[n]]
    lost = [n for n in losers if n in differing]
    won = [n for n in differing if n not in losers]
    grades = {query.id: {old[n]: 1, new[n]: 1} for n, query in enumerate(QUERIES)}
    grades |= {QUERIES[n].id: {old[n]: 1} for n in lost} | {QUERIES[n].id: {new[n]: 1} for n in won}
    return Judged(queries, Qrels(grades), "P@1")


@pytest.fixture
def views(swapping: Callable[..., Any]) -> tuple[View, View]:
    """An encoder and another one, as good by itself."""
    old, new = swapping({"dense": DENSE}).to({"dense": OTHER})
    return old, new


def test_the_worst_slice_stops_what_is_better_on_average(views: tuple[View, View]) -> None:
    old, new = first_hits(views)
    losers = [n for n in range(len(QUERIES)) if old[n] != new[n]][:10]
    spoken = [
        replace(query, metadata={"kind": "spoken" if n in losers else "typed"}) for n, query in enumerate(QUERIES)
    ]
    judged = loses_for(views, losers, spoken)
    assert gate(views, judged).outcome == "passed"
    report = gate(views, judged, slices=["kind"])
    assert report.judged is not None
    assert report.judged.verdict == "passed"
    worst = report.judged.slices[0]
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
    ids = [name for names in first_hits(views)[:1] for name in names]
    points = view.client.scroll(view.name, limit=200)[0]
    for point in points:
        view.client.set_payload(view.name, {"section": "mail"}, points=[point.id])
    judged = Judged(QUERIES, Qrels({query.id: {name: 1} for query, name in zip(QUERIES, ids, strict=True)}), "P@1")
    report = gate(views, judged, margin=0.9, slices=["length", "language", "section"])
    assert report.judged is not None
    assert {str(part.slice) for part in report.judged.slices} == {
        "length 3 to 5 words",
        "language latin",
        "section mail",
    }


def test_a_slower_encoder_is_stopped_only_where_the_time_is_limited(swapping: Callable[..., Any]) -> None:
    views = swapping({"dense": DENSE}).to({"dense": SLOW})
    judged = swap_equal(views)
    free = gate(views, judged)
    assert (free.outcome, free.latency) == ("passed", None)
    limited = gate(views, judged, max_slowdown=1.5)
    assert limited.latency is not None
    assert limited.outcome == "worse"
    assert limited.reasons[0].endswith("1.5 times as long at most (swap.gate.max_slowdown)")
    assert gate(views, None, max_slowdown=1.5, sample=20).outcome == "worse"


def test_an_interval_about_zero_is_called_neither_better_nor_worse(views: tuple[View, View]) -> None:
    equal = swap_equal(views)
    assert gate(views, equal).outcome == "undecided"  # 40 queries bound the loss by .088
    report = gate(views, equal, margin=0.1)
    assert report.sentence.endswith("not worse by more than the margin of 0.1; not shown to be better")
    better = loses_for(views, [])
    assert gate(views, better).sentence.endswith("over 40 queries: better: the whole interval is above 0")


def swap_equal(views: tuple[View, View]) -> Judged:
    """Judgements by which both views' first hits are right."""
    old, new = first_hits(views)
    grades = {query.id: {a: 1, b: 1} for query, a, b in zip(QUERIES, old, new, strict=True)}
    return Judged(QUERIES, Qrels(grades), "P@1")
