"""The harness of effects: what the small worlds hold, when an effect is shown, and how the table tells it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from diptych.evaluate import Qrels, evaluate
from diptych.types import Run
from effects.run import METHODS, read
from effects.running import (
    Effect,
    plateau,
    student_interval,
)
from effects.scoring import ndcg, precision, recall
from effects.table import written

RANDOM = np.random.default_rng(0)
SCORES, RELEVANT = RANDOM.normal(size=(6, 30)), RANDOM.random((6, 30)) < 0.2
RELEVANT[:, 0] = True


def test_measures_are_those_of_evaluation() -> None:
    rankings = {f"q{q}": [(f"d{d}", float(own[d])) for d in np.argsort(-own)] for q, own in enumerate(SCORES)}
    qrels = Qrels({f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(own)} for q, own in enumerate(RELEVANT)})
    wanted = evaluate(Run("run", rankings), qrels, ["nDCG@10", "Recall@5", "P@5"]).means
    assert ndcg(SCORES, RELEVANT).mean() == pytest.approx(wanted["nDCG@10"])
    assert recall(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["Recall@5"])
    assert precision(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["P@5"])


def made(found: list[float], *, better: str = "higher", queries: tuple[float, float] | None = None) -> Effect:
    return Effect("M", "beside", "H-lex", "nDCG@10", [0.5] * len(found), found, better, queries, 0.01)  # type: ignore[arg-type]


SURE, UNSURE = [0.6, 0.61, 0.62, 0.6, 0.61], [0.6, 0.41, 0.62, 0.4, 0.61]


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (made(SURE), "shown"),
        (made(SURE, queries=(0.05, 0.15)), "shown"),
        (made(SURE, queries=(-0.01, 0.15)), "not shown"),
        (made(UNSURE), "not shown"),
        (made(UNSURE, queries=(0.01, 0.05)), "not shown"),
        (made(SURE, better="lower"), "opposite"),
        (made([0.4, 0.41, 0.42, 0.4, 0.41], better="lower"), "shown"),
        (made([0.5] * 5), "not shown"),
        (made([0.505] * 5, better="equal"), "shown"),
        (made([0.5, 0.5, 0.5, 0.5, 0.52], better="equal"), "not shown"),
        (made(SURE, better="equal"), "opposite"),
        (made([0.4, 0.41, 0.42, 0.4, 0.41], better="equal"), "opposite"),
    ],
)
def test_an_effect_is_shown_when_all_its_intervals_lie_on_the_side_that_is_claimed(one: Effect, verdict: str) -> None:
    assert one.verdict == verdict
    assert Effect.of(json.loads(json.dumps(one.to_data()))) == one


def test_the_interval_over_seeds_is_students() -> None:
    from scipy.stats import t

    differences = np.array(UNSURE) - 0.5
    wanted = t.interval(0.95, 4, differences.mean(), differences.std(ddof=1) / math.sqrt(5))
    assert student_interval(differences) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("curve", "steps", "told", "met"),
    [
        ((0.1, 0.102, 0.4, 0.6, 0.601, 0.602), 1600, "1,600 steps, twice as many +0.001", True),  # learns late
        ((0.5, 0.6, 0.4, 0.3), 400, "400 steps, twice as many -0.200", True),  # learns too much from then on
        ((0.6, 0.1, 0.1), 200, "200 steps, twice as many -0.500", False),  # had learnt too much at the start
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 6400, "6,400 steps, half as many -0.100", False),
    ],
)
def test_a_late_or_falling_baseline_is_seen(curve: tuple[float, ...], steps: int, told: str, met: bool) -> None:
    assert plateau(lambda asked, _: curve[(asked // 200).bit_length() - 1]) == (steps, (told, met))


@pytest.mark.parametrize("page", sorted(METHODS.glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_in_the_docs_say_what_the_effects_say(page: Path) -> None:
    """When this fails: `python tests/benchmarks/run_effects.py --render`."""
    assert written(page, read(METHODS / "effects.json")) == page.read_text(encoding="utf-8")


def test_every_row_of_the_table_says_what_had_to_hold() -> None:
    rows = [Effect.of(one) for own in read(METHODS / "effects.json").values() for one in own["effects"]]
    assert len(rows) > 80
    assert [one.compared for one in rows if not one.conditions and one.better != "equal"] == []
