"""The statistics hold what they promise, on data whose truth is known, and equal scipy's where scipy has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diptych.evaluate.comparison import clopper_pearson, holm, randomization_p_value
from diptych.evaluate.scoring import Doubles, bootstrap_means, percentile_interval


def like_ndcg(rng: np.random.Generator, queries: int, shift: float = 0.0) -> Doubles:
    """Differences like those of nDCG: many ties, bounded, symmetric about 0 before the shift."""
    gaps = rng.beta(0.7, 1.6, queries) * rng.choice((-1, 0, 0, 1), queries)
    shifted: Doubles = np.clip(gaps + shift * (rng.random(queries) < 0.5), -1, 1)
    return shifted


def p_value(differences: Doubles, samples: int, seed: int) -> float:
    return randomization_p_value(differences, samples=samples, seed=seed)


def test_p_values_are_uniform_when_there_is_no_difference() -> None:
    rng = np.random.default_rng(11)
    found = [p_value(like_ndcg(rng, 120), 999, trial) for trial in range(600)]
    assert stats.kstest(found, "uniform").pvalue > 0.05
    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.07


@pytest.mark.parametrize("queries", [20, 100])
def test_intervals_cover_the_true_mean_as_often_as_they_say(queries: int) -> None:
    rng, covered = np.random.default_rng(14), 0
    for trial in range(1000):
        means = bootstrap_means(rng.beta(0.5, 2.0, queries) - 0.1, samples=999, seed=trial)
        low, high = percentile_interval(means, size=queries, confidence=0.95)
        covered += low <= 0.1 <= high
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize("seed", range(8))
def test_the_exact_p_value_equals_scipys(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.3, 1, 11)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert randomization_p_value(differences, samples=100, seed=0) == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1])
def test_the_sampled_p_value_is_near_scipys(shift: float) -> None:
    differences = like_ndcg(np.random.default_rng(21), 90, shift)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=40_000, rng=1)
    found = randomization_p_value(differences, samples=40_000, seed=0)
    assert found == pytest.approx(expected.pvalue, abs=4 * np.sqrt(2 * 0.25 / 40_000))


def test_a_sampled_p_value_is_never_0() -> None:
    assert p_value(np.linspace(0.5, 1.0, 60), 999, 0) == 1 / 1000


def test_a_seed_gives_the_same_figures_again() -> None:
    differences = like_ndcg(np.random.default_rng(24), 60, 0.03)
    assert p_value(differences, 999, 5) == p_value(differences, 999, 5)
    assert len({p_value(differences, 999, seed) for seed in range(5)}) > 1


def test_samples_drawn_in_several_blocks_are_all_counted() -> None:
    wide = np.random.default_rng(25).normal(0, 1, 900_000)
    assert len(bootstrap_means(wide, samples=10, seed=0)) == 10
    assert 0 < randomization_p_value(wide, samples=10, seed=0) <= 1


def step_down(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as he wrote it: reject from the smallest on, stop at the first that is too large."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - step) >= alpha:
            break
        rejected[index] = True
    return rejected


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_adjusted_p_values_reject_what_holms_procedure_rejects(p_values: list[float], alpha: float) -> None:
    assert [value < alpha for value in holm(p_values)] == step_down(p_values, alpha)


@pytest.mark.parametrize(("count", "size"), [(0, 37), (1, 37), (30, 37), (37, 37), (0, 1), (120, 5000)])
def test_the_exact_bounds_of_a_share_are_scipys(count: int, size: int) -> None:
    known = stats.binomtest(count, size).proportion_ci(0.9, method="exact")
    assert clopper_pearson(count, size, tail=0.05) == pytest.approx((known.low, known.high), abs=1e-9)
