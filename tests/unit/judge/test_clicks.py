"""Judgements from clicks: what position bias does to them, and that it is taken out again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import evaluate
from diptych.types import Run
from diptych_lab.judge import ClickLog, Propensities, judged_from_clicks
from diptych_lab.judge.clicks import Shown

WORTH = {"best": 0.9, "good": 0.6, "some": 0.3, "none": 0.0}
LOOKED_AT = (1.0, 0.5, 0.25, 0.2)


def simulated(lists: int, *, swaps: float) -> ClickLog:
    """Lists that a bad ranker made, in a share of which neighbours stand the other way round."""
    chance, shown = random.Random(0), []
    for _ in range(lists):
        ranking = ["none", "some", "good", "best"]
        if chance.random() < swaps:
            at = chance.randrange(3)
            ranking[at], ranking[at + 1] = ranking[at + 1], ranking[at]
        clicked = {name for name, p in zip(ranking, LOOKED_AT, strict=True) if chance.random() < p * WORTH[name]}
        shown.append(Shown(query="a query", shown=tuple(ranking), clicked=frozenset(clicked)))
    return ClickLog(tuple(shown))


def test_measured_propensities_are_those_of_the_simulation_and_grades_those_of_its_worths() -> None:
    log = simulated(20_000, swaps=0.6)
    propensities = Propensities.harvested(log)
    assert propensities.values == pytest.approx(LOOKED_AT, abs=0.05)
    queries, qrels = judged_from_clicks(log, propensities)
    assert [(query.text, query.metadata) for query in queries] == [("a query", {"shown": 20_000})]
    assert qrels.judgements[queries[0].id] == {"best": 3, "good": 2, "some": 1, "none": 0}
    raw = judged_from_clicks(log, Propensities.power_law(0, ranks=4))[1].judgements[queries[0].id]
    assert raw["good"] == raw["best"] == 3, "without weights what stands below looks worse than it is"
    best = Run("best", {queries[0].id: [("best", 4), ("good", 3), ("some", 2), ("none", 1)]})
    assert evaluate(best, qrels, ["nDCG@10"]).means["nDCG@10"] == 1.0


def test_the_power_law_is_that_of_the_paper_and_goes_on_beyond_its_ranks() -> None:
    law = Propensities.power_law(2, ranks=3)
    assert law.values == (1, 1 / 4, 1 / 9)
    assert law.of(50) == 1 / 9


def test_a_log_in_which_no_document_changes_its_rank_measures_nothing() -> None:
    with pytest.raises(EvaluationError, match=r"(?s)the rank matters.*ranks 1 and 2.*got: 0 clicks.*--power 1"):
        Propensities.harvested(simulated(1000, swaps=0))


def test_clicks_on_ids_that_were_not_shown_count_nowhere_and_are_listed() -> None:
    log = simulated(100, swaps=0)
    more = ClickLog((*log.shown, Shown(query="a query", shown=("best",), clicked=frozenset({"best", "gone", "away"}))))
    assert (log.ignored, more.ignored) == ((), (("a query", "away"), ("a query", "gone")))
    assert "gone" not in next(iter(judged_from_clicks(more, Propensities((1.0,)))[1].judgements.values()))


def test_rare_queries_and_those_without_clicks_are_left_out() -> None:
    rare = [Shown(query="rare", shown=("best",), clicked=frozenset({"best"}))] * 9
    silent = [Shown(query="silent", shown=("best",), clicked=frozenset())] * 90
    log = ClickLog((*simulated(100, swaps=0).shown, *rare, *silent))
    assert [query.text for query in judged_from_clicks(log, Propensities((1.0,)))[0]] == ["a query"]
    with pytest.raises(EvaluationError, match="often enough"):
        judged_from_clicks(ClickLog(tuple(rare)), Propensities((1.0,)))


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"query": "q", "shown": "ab", "clicked": []}', '{"query": ""}'])
def test_a_line_that_is_no_list_is_named(line: str, tmp_path: Path) -> None:
    good = json.dumps({"query": "q", "shown": ["a"], "clicked": ["a"]})
    (tmp_path / "log.jsonl").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(EvaluationError, match="line 3"):
        ClickLog.read(tmp_path / "log.jsonl")
