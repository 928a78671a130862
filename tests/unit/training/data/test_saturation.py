"""Doubling stops where it should, and the curve is that of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ConfigError
from diptych_training.recipes.common.synthetic_queries import doubled, fitted


@settings(deadline=None, max_examples=40)
@given(a=st.floats(0.3, 1.0), b=st.floats(0.05, 0.5), c=st.floats(0.1, 3.0))
def test_points_of_a_curve_give_the_curve_again(a: float, b: float, c: float) -> None:
    amounts = [1, 2, 4, 8, 16, 32]
    scores = [a - b * n**-c for n in amounts]
    found = fitted(amounts, scores)
    assert [found(n) for n in amounts] == pytest.approx(scores, abs=2e-3)
    assert found.a == pytest.approx(a, abs=0.03)
    assert found.error < 2e-3


def test_no_other_parameters_nearby_fit_better() -> None:
    random = np.random.default_rng(0)
    amounts = np.array([1, 2, 4, 8, 16])
    scores = 0.6 - 0.3 * amounts**-0.8 + random.normal(0, 0.01, 5)
    found = fitted(amounts.tolist(), scores.tolist())
    for step in np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 0.02:
        for sign in (-1, 1):
            a, b, c = np.array([found.a, found.b, found.c]) + sign * step
            assert np.sqrt(np.mean((scores - a + b * amounts**-c) ** 2)) >= found.error - 1e-5


def test_scores_that_do_not_rise_are_a_flat_line() -> None:
    found = fitted([1, 2, 4], [0.5, 0.4, 0.3])
    assert found.b == 0.0
    assert found.a == pytest.approx(0.4)


def test_doubling_ends_with_the_first_small_gain() -> None:
    scores = {1: 0.1, 2: 0.2, 4: 0.25, 8: 0.252, 16: 0.9}
    found = doubled(scores.__getitem__, start=1, limit=16, gain=0.005)
    assert (found.amounts, found.stopped, found.best) == ((1, 2, 4, 8), "gain", 8)
    assert found.curve is not None
    assert found.curve(100) == pytest.approx(0.26, abs=0.02)


def test_doubling_never_passes_the_most_and_two_points_are_no_curve() -> None:
    found = doubled(float, start=3, limit=11)
    assert (found.amounts, found.stopped, found.curve) == ((3, 6), "most", None)
    with pytest.raises(ConfigError, match="the first amount is out of range"):
        doubled(float, start=0, limit=4)
    with pytest.raises(ConfigError, match=r"(?s)no curve can be fitted.*above 0"):
        fitted([0, 1], [0.1, 0.2])
