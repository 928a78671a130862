"""What the gate measured, as a terminal and as a pipe show it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from diptych.cli.apply import show_gate
from diptych.cli.output import say
from diptych.swap.gate.answers import KnownItem, Overlap, SideBySide
from diptych.swap.gate.gate import GateReport
from diptych.swap.gate.judged import JudgedComparison, QueryLoss, Verdict

SAMPLE = SideBySide(
    "a query of several words that is longer than half of the terminal, and then some more of it",
    0.5,
    ("東京の天気 and what else the first document has to say", "second"),
    ("the new encoder's first document, which is long too, and goes on for a while",),
)
ITEM = KnownItem("pipeline", "their titles", 200, 0.985, 0.98, -0.005, -0.02, 0.01, 197, 1, 0.024)
UNJUDGED = GateReport(
    "not measured",
    (),
    changed=0.188,
    overlaps=(Overlap("pipeline", 200, 0.812, 0.9, 0.1), Overlap("dense", 200, 0.7, 0.7, 0.0)),
    known_items=(ITEM, replace(ITEM, of="dense")),
    samples=(SAMPLE,),
    remarks=("no judgements: quality is not measured",),
)


@pytest.fixture(autouse=True)
def terminal_with_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes a dumb terminal for one of 80 columns whatever it is told."""
    monkeypatch.setenv("TERM", "xterm")


def shown(report: GateReport, *, width: int = 80, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, markup=False)
    show_gate(console, report)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def judged(verdict: Verdict, queries: int = 50) -> JudgedComparison:
    figures = (0.8673, 0.7903, -0.077, -0.1356, -0.0248)
    worst = (QueryLoss("q1", "delete unnecessary files", 1.0, 0.315),)
    return JudgedComparison(
        "nDCG@10",
        0.02,
        0.95,
        queries,
        *figures,
        1,
        39,
        10,
        verdict,
        "the verdict in words",
        worst,
    )


def test_a_terminal_is_never_wider_than_it_is() -> None:
    for report in (UNJUDGED, GateReport("worse", ("the verdict in words",), judged=judged("worse"))):
        for width in (60, 80, 200):
            assert max(cell_len(line) for line in shown(report, width=width)) <= width


def test_without_judgements_shares_and_neighbours_are_told() -> None:
    lines = shown(UNJUDGED, width=200)
    assert lines[0] == (
        "gate: not measured: no judgements; 19% of the first 10 hits change, with 200 documents as queries"
    )
    assert " ".join(lines[1].split()) == "200 documents, found among the first 10 by old new lost at most"
    assert lines[2].split() == ["their", "titles", "98.5%", "98.0%", "1", "of", "197", "2.4%"]
    assert lines[3].split()[:4] == ["dense", "alone,", "their", "titles"]
    assert "  neighbours in common: pipeline 0.81, dense 0.70" in lines
    assert "  no judgements: quality is not measured" in lines


def test_answers_stand_side_by_side_also_in_scripts_of_double_width() -> None:
    lines = shown(UNJUDGED)
    first = next(line for line in lines if "東京" in line)
    assert cell_len(first.partition("the new")[0]) == 2 + 38
    assert "  second" in lines
    assert [line.split() for line in lines if line.strip() == "old" + " " * 35 + "new"] == [["old", "new"]]


def test_with_judgements_the_metric_and_what_lost_most_are_told() -> None:
    lines = shown(GateReport("worse", ("the verdict in words",), judged=judged("worse")))
    assert lines[:2] == [
        "gate: worse: the verdict in words",
        "  queries better 1, equal 39, worse 10; 100% of their first 10 hits change",
    ]
    assert ["delete", "unnecessary", "files", "1.000", "0.315"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("terminal", "lines"),
    [(True, ["  several words that", "  are too long"]), (False, ["  several words that are too long"])],
)
def test_a_sentence_breaks_between_words_on_a_terminal_only(terminal: bool, lines: list[str]) -> None:
    console = Console(file=io.StringIO(), width=22, force_terminal=terminal, color_system=None)
    say(console, "  several words that are too long")
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == lines  # type: ignore[attr-defined]
