"""The harness of effects: what the small worlds hold, when an effect is shown, and how the table tells it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.evaluate import Qrels, evaluate
from diptych.types import Run
from effects.lex import Lex, lex
from effects.run import METHODS, read
from effects.running import (
    Effect,
    above,
    effect,
    learnt,
    plateau,
    student_interval,
)
from effects.scoring import best_f1, ndcg, pooled_auc, precision, recall
from effects.table import BEGIN, END, line, overview, table_of, write_into, written

RANDOM = np.random.default_rng(0)
SCORES, RELEVANT = RANDOM.normal(size=(6, 30)), RANDOM.random((6, 30)) < 0.2
RELEVANT[:, 0] = True


@pytest.fixture(scope="module")
def world() -> Lex:
    return lex(3, documents=400, topics=10, train=60, test=20)


@pytest.mark.parametrize("options", [{}, {"duplicated": 0.2}])
def test_a_document_is_relevant_exactly_when_it_says_all_that_is_asked(options: dict[str, float]) -> None:
    world = lex(3, documents=400, topics=10, train=60, test=20, **options)  # type: ignore[arg-type]
    spoken = [set(text.split()) for text in world.documents]
    for query, relevant in zip(world.queries, world.relevant, strict=True):
        asked = set(query.split())
        assert relevant.tolist() == [asked <= words for words in spoken]
        assert 2 <= len(asked) <= 3
        assert 1 <= relevant.sum() <= 12


def test_measures_are_those_of_evaluation() -> None:
    rankings = {f"q{q}": [(f"d{d}", float(own[d])) for d in np.argsort(-own)] for q, own in enumerate(SCORES)}
    qrels = Qrels({f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(own)} for q, own in enumerate(RELEVANT)})
    wanted = evaluate(Run("run", rankings), qrels, ["nDCG@10", "Recall@5", "P@5"]).means
    assert ndcg(SCORES, RELEVANT).mean() == pytest.approx(wanted["nDCG@10"])
    assert recall(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["Recall@5"])
    assert precision(SCORES, RELEVANT, 5).mean() == pytest.approx(wanted["P@5"])


def test_pooled_measures_are_their_definitions() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    assert pooled_auc(SCORES, RELEVANT) == pytest.approx(roc_auc_score(RELEVANT.reshape(-1), SCORES.reshape(-1)))
    hardest = pooled_auc(SCORES, RELEVANT, hardest=1)
    high, low = SCORES[RELEVANT], np.where(RELEVANT, -np.inf, SCORES).max(1)
    assert hardest == pytest.approx((high[:, None] > low).mean())
    wanted = max(f1_score(RELEVANT.reshape(-1), SCORES.reshape(-1) >= bound) for bound in SCORES.reshape(-1))
    assert best_f1(SCORES, RELEVANT) == pytest.approx(wanted)


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


def test_queries_that_seeds_share_are_averaged_first() -> None:
    baseline = [np.zeros(4), np.zeros(4)]
    found = [np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0])]
    apart = effect("M", "beside", "H", "nDCG", baseline, found)
    shared = effect("M", "beside", "H", "nDCG", baseline, found, same_queries=True)
    assert shared.queries == (0.5, 0.5)
    assert apart.queries is not None
    assert apart.queries[0] < 0.5 < apart.queries[1]
    assert apart.found == shared.found == [0.5, 0.5]
    assert effect("M", "beside", "H", "AUC", [0.5, 0.6], [0.7, 0.7]).queries is None


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


def test_a_baseline_that_still_learns_at_the_greatest_length_leaves_no_verdict() -> None:
    steps, condition = plateau(lambda steps, _: steps / 1000, start=200, limit=800, of="InfoNCE")
    assert steps == 800
    assert condition == ("InfoNCE: 800 steps, half as many -0.400", False)
    row = effect("M", "beside", "H", "AUC", [0.5] * 5, SURE, conditions=[condition])
    assert row.verdict == "not measurable"
    assert Effect.of(json.loads(json.dumps(row.to_data()))) == row


def test_what_a_method_presupposes_is_said_and_missing_leaves_no_verdict() -> None:
    good, weak = above("ranker", [[0.6, 0.8]], "retriever", [0.5]), above("ranker", [0.5], "retriever", [0.5])
    assert (good, weak.met) == (("ranker 0.700 above retriever 0.500", True), False)
    assert not above("reader", [0.6], "chance", [0.5], by=0.2).met
    rows = [effect("M", "b", "H", "AUC", [0.5] * 5, SURE, conditions=own) for own in ([good], [good, weak], [])]
    assert [one.verdict for one in rows] == ["shown", "not measurable", "shown"]
    told = table_of({"one": {"effects": [one.to_data() for one in rows]}}, "").splitlines()
    assert "| shown; AUC shown |" in told[2]
    assert told[-1] == "Not measurable, since a condition was not met: 1 more."


def test_a_trained_baseline_has_to_be_better_than_the_untrained_model() -> None:
    near, far = ([[own, own] for own in side] for side in ([0.41] * 5, [0.3, 0.4, 0.38, 0.36, 0.41]))
    more: dict[str, Any] = {"conditions": [above("teacher", [0.7], "student", [0.5])]}
    rows = [effect("M", "b", "H", "AUC", [0.5] * 5, SURE, untrained=own, **more) for own in (far, near, [])]
    assert rows[0].conditions[1:] == (learnt([0.5] * 5, far),) == (("baseline 0.500 above untrained 0.370", True),)
    assert [one.verdict for one in rows] == ["shown", "not measurable", "shown"]
    assert [Effect.of(json.loads(json.dumps(one.to_data()))) for one in rows] == rows


def test_a_table_prints_what_is_not_shown_in_bold_and_the_overview_counts_verdicts() -> None:
    good = effect("CPRD", "beside KL", "H-mat", "tau", [0.5] * 5, SURE, page="cprd")
    bad = effect("MW", "beside InfoNCE", "H-lex", "nDCG@10", [0.5] * 5, UNSURE, page="mw")
    found = {"two": {"effects": [bad.to_data()]}, "one": {"effects": [good.to_data()]}}
    first, second = (table_of(found, page).splitlines()[-1] for page in ("cprd", "mw"))
    assert first == "| beside KL | H-mat | tau | 0.500 -> 0.608 | +0.108 [+0.098, +0.118] | shown |"
    assert second.startswith("| beside InfoNCE |")
    assert second.endswith("| **not shown** |")
    links, _, _, _, *counts = overview(found, ["cprd", "README"]).splitlines()
    assert links == "Pages: [cprd](cprd.md)."
    assert counts == ["| [cprd](cprd.md) | 1 |  |  |  |", "| [mw](mw.md) |  | 1 |  |  |"]
    assert line(good) == "CPRD: beside KL, H-mat tau 0.500 -> 0.608, +0.108 [+0.098, +0.118]: shown"


def test_a_page_has_its_own_effects_and_one_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    found = {"one": {"effects": [effect("CPRD", "beside KL", "H-mat", "tau", [0.5] * 5, SURE, page="cprd").to_data()]}}
    for name, text in (("README", f"{BEGIN}{END}"), ("cprd", f"{BEGIN}{END}"), ("mw", f"{BEGIN}{END}"), ("xmc", "x")):
        (tmp_path / f"{name}.md").write_text(text)
    write_into(tmp_path, found)
    assert "| [cprd](cprd.md) |" in (tmp_path / "README.md").read_text()
    assert "| beside KL | H-mat |" in (tmp_path / "cprd.md").read_text()
    assert "Nothing was measured yet." in (tmp_path / "mw.md").read_text()
    assert (tmp_path / "xmc.md").read_text() == "x"


@pytest.mark.parametrize("page", sorted(METHODS.glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_in_the_docs_say_what_the_effects_say(page: Path) -> None:
    """When this fails: `python tests/benchmarks/run_effects.py --render`."""
    assert written(page, read(METHODS / "effects.json")) == page.read_text(encoding="utf-8")


def test_every_row_of_the_table_says_what_had_to_hold() -> None:
    rows = [Effect.of(one) for own in read(METHODS / "effects.json").values() for one in own["effects"]]
    assert len(rows) > 80
    assert [one.compared for one in rows if not one.conditions and one.better != "equal"] == []
