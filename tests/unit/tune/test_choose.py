"""What the tuner computes, against the library of measures; and what it chooses where the truth is known."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pytest

from diptych.evaluate import Qrels, evaluate
from diptych.search import Dbsf, Fusion, Linear, Rerank, Rescore, Rrf
from diptych.search.fusion import fuse
from diptych.types import Run
from diptych_lab.tune.trials import Legs, Trial, Values, choose, simplest, simplicity, trials

SLOTS = ("a", "b")
Rankings: TypeAlias = dict[str, list[list[tuple[str, float]]]]


def drawn(
    count: int = 40, width: int = 30, seed: int = 0
) -> tuple[Legs, dict[str, list[list[tuple[str, float]]]], list[dict[str, int]]]:
    """Two noisy rankings of the same relevant documents."""
    rng = np.random.default_rng(seed)
    found: Rankings = {slot: [] for slot in SLOTS}
    grades = []
    for n in range(count):
        relevant = {f"d{d}": int(rng.integers(1, 4)) for d in rng.choice(60, 4, replace=False)}
        grades.append(relevant)
        for place, slot in enumerate(SLOTS):
            scores = {f"d{d}": float(rng.normal() + 1.2 * (f"d{d}" in relevant)) for d in range(60)}
            best = sorted(scores.items(), key=lambda pair: -pair[1])[: width - 10 * place]
            found[slot].append(best if n or place else [])
    return Legs.of(found, grades), found, grades


@pytest.mark.parametrize(
    "fusion",
    [
        Rrf(),
        Rrf(5, {"a": 0.3}),
        Dbsf(),
        Linear(),
        Linear("minmax", {"b": 0.2}),
        Linear("zscore"),
        Linear("zscore", {"a": 2.0}, missing=-1.0),
    ],
    ids=repr,
)
def test_a_trials_values_are_those_of_the_fusion_and_the_library_of_measures(fusion: Fusion) -> None:
    legs, found, grades = drawn()
    values = Values(legs).of(Trial(SLOTS, fusion))
    rankings = {
        str(n): [(str(point), score) for point, score in fuse(fusion, {slot: found[slot][n] for slot in SLOTS})]
        for n in range(len(grades))
    }
    qrels = Qrels({str(n): own for n, own in enumerate(grades)})
    expected = evaluate(Run("fused", rankings), qrels, ["nDCG@10"]).values("nDCG@10")
    assert values.tolist() == pytest.approx([expected[str(n)] for n in range(len(grades))], abs=1e-9)


def test_a_slot_alone_is_not_helped_by_what_only_another_found() -> None:
    found = {"a": [[("x", 1.0)]], "b": [[("y", 2.0), ("x", 1.0)]]}
    legs = Legs.of(found, [{"y": 1}])
    assert [float(legs.alone(slot)[0]) for slot in SLOTS] == [0.0, 1.0]
    assert float(Values(legs).of(Trial(("a",)))[0]) == 0.0


def test_fewer_candidates_are_as_if_no_more_had_been_asked_for() -> None:
    legs, found, grades = drawn()
    shallow = Legs.of({slot: [own[:7] for own in lists] for slot, lists in found.items()}, grades)
    for fusion in (Rrf(), Linear(), Linear("zscore", missing=-1.0)):
        deep, short = Values(legs).of(Trial(SLOTS, fusion, depth=7)), Values(shallow).of(Trial(SLOTS, fusion))
        assert deep.tolist() == pytest.approx(short.tolist())


def test_rescoring_orders_the_best_by_the_other_score() -> None:
    legs, _, _ = drawn()
    late = np.where(legs.gains > 0, legs.gains, 0.0)
    perfect = Values(legs, {"late": late}).of(Trial(SLOTS, Rrf(), Rescore("late", 1000)))
    few = Values(legs, {"late": late}).of(Trial(SLOTS, Rrf(), Rescore("late", 1)))
    assert perfect.mean() > Values(legs).of(Trial(SLOTS, Rrf())).mean() > few.mean()


def test_the_simplest_within_one_standard_error_is_taken() -> None:
    tried = [Trial(("a",)), Trial(SLOTS, Rrf()), Trial(SLOTS, Rrf(60, {"a": 0.1, "b": 0.9}))]
    rng = np.random.default_rng(0)
    base = rng.random(200)
    noise = rng.normal(0, 0.1, 200)
    values = np.array([base, base + 0.05, base + 0.05 + noise - noise.mean() + 0.001])
    assert simplest(values, simplicity(tried, 0)) == 1


def noisy(gain: float, count: int, seed: int) -> np.ndarray:
    """Values of a start, a single slot and thirty fusions, of which none but the last differs in truth."""
    rng = np.random.default_rng(seed)
    base = np.clip(rng.normal(0.5, 0.25, count), 0, 1)
    values = base + rng.normal(0, 0.1, (32, count))
    values[-1] += gain
    return values


TRIED = [Trial(SLOTS, Rrf()), Trial(("a",)), *(Trial(SLOTS, Rrf(60, {"a": n / 40 + 0.1})) for n in range(30))]


def test_where_nothing_is_better_the_start_stays_nearly_always() -> None:
    moved = sum(choose(noisy(0.0, 60, seed), TRIED, 0).index != 0 for seed in range(100))
    assert moved <= 5


def test_a_large_gain_passes_and_a_small_one_says_how_many_queries_would_show_it() -> None:
    large = choose(noisy(0.15, 100, 1), TRIED, 0)
    assert (large.index, large.passed) == (31, True)
    assert large.gains[0].low > 0
    small = choose(noisy(0.03, 20, 3), TRIED, 0)
    assert not small.passed
    assert small.index == 0
    assert all(gain.needed is None or gain.needed > 20 for gain in small.gains)


def test_a_fusion_that_is_below_the_best_single_slot_on_held_out_queries_gives_way_to_it() -> None:
    below = 0
    for seed in range(30):
        values = noisy(0.0, 20, seed)
        values[0] -= 0.3
        found = choose(values, TRIED, 0)
        assert found.passed, seed
        if len(found.gains) == 1:
            below += 1
            assert TRIED[found.index].slots == ("a",), seed
            assert found.gains[0].mean == pytest.approx(0.3, abs=0.1), "the gain is the slot's own"
    assert below > 5


@pytest.mark.parametrize(("over_single", "chosen"), [(0.1, SLOTS), (0.015, ("a",))])
def test_a_fusion_passes_only_if_an_interval_shows_that_it_beats_the_best_single_slot_too(
    over_single: float, chosen: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(0)
    single = np.clip(rng.normal(0.5, 0.25, 100), 0, 1)
    noise = rng.normal(0, 0.1, 100)
    fused = single + over_single + noise - noise.mean()  # 10 standard errors, or 1.5, which the rule takes
    found = choose(
        np.array([single - 0.2, single, fused]), [Trial(SLOTS, Rrf()), Trial(("a",)), Trial(SLOTS, Dbsf())], 0
    )
    assert (found.passed, [Trial(SLOTS), Trial(("a",)), Trial(SLOTS)][found.index].slots) == (True, chosen)
    assert [gain.name for gain in found.gains][1:] == ["the best single slot"] * (chosen == SLOTS)


def test_a_fusion_that_beats_the_start_but_not_shown_to_beat_the_best_slot_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    start = np.clip(rng.normal(0.5, 0.1, 60), 0, 1)
    noise = rng.normal(0, 0.5, 60)
    fused, single = start + 0.1, start + noise - noise.mean()
    found = choose(np.array([start, single, fused]), [Trial(SLOTS, Rrf()), Trial(("a",)), Trial(SLOTS, Dbsf())], 0)
    assert (found.index, found.tuned, found.passed) == (0, 2, False)
    assert found.gains[0].low > 0 >= found.gains[1].low


def test_a_start_that_may_not_stay_gives_way_to_the_simplest_of_the_others() -> None:
    values = noisy(0.0, 60, 5)
    values[0] += 0.3
    assert choose(values, TRIED, 0).index == 0
    forced = choose(values, TRIED, 0, start_fits=False)
    assert (forced.passed, TRIED[forced.index].is_single) == (True, True)
    assert forced.gains[0].high < 0


def test_too_few_queries_choose_nothing() -> None:
    found = choose(noisy(0.5, 9, 0), TRIED, 0)
    assert (found.index, found.passed, found.gains) == (0, False, ())


def test_rerankers_are_tried_after_weighted_fusions_and_each_slot_alone_is_rescored() -> None:
    tried = trials(SLOTS, rerankers=[Rerank("mine", 50)])
    weighted = [own.rerank.candidates for own in tried if own.rerank and not own.is_plain]
    plain = [own.rerank.candidates for own in tried if own.rerank and own.is_plain]
    assert (set(weighted), set(plain)) == ({50}, {10, 20, 50})
    assert {own.rescore.slot for own in trials(["a"], ["late"]) if own.rescore} == {"late"}
    assert {own.slots for own in trials(["a", "b"], ["late"]) if own.rescore} == {("a",), ("b",), ("a", "b")}


def test_three_slots_are_tried_together_and_without_each() -> None:
    tried = trials(("a", "b", "c"), ("late",))
    assert {trial.slots for trial in tried} == {
        ("a",),
        ("b",),
        ("c",),
        ("a", "b", "c"),
        ("b", "c"),
        ("a", "c"),
        ("a", "b"),
    }
    assert {trial.rescore for trial in tried} == {
        None,
        *(Rescore("late", reads, weight=weight) for reads in (20, 50) for weight in (0.3, 0.5, 0.7, 1.0)),
    }
    assert len({repr(trial) for trial in tried}) == len(tried)
