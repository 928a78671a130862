from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest

from diptych.swap.drift import Quality, best_map, fit, offer
from diptych.swap.drift.offering import GAIN, KEPT, PAIRS
from diptych.types import Floats

Spaces: TypeAlias = Callable[..., tuple[Floats, Floats]]

GOOD = Quality("ridge", 1000, 100, 0.93, KEPT + 0.1, 0.71, 0.69, unmapped_kept=0.41, unmapped_overlap=0.42)


def test_a_good_map_is_offered_with_its_figures() -> None:
    found = offer(GOOD)
    assert found.yes
    for figure in (
        "100 of 1000 documents",
        f"ridge keeps {GOOD.kept:.2f}",
        "0.41 without a map",
        "0.93",
        "0.71",
        "0.69",
    ):
        assert figure in found.why


@pytest.mark.parametrize(
    ("quality", "why"),
    [
        (replace(GOOD, pairs=PAIRS - 1), f"{PAIRS - 1} pairs are too few to judge a map by; back-fill {PAIRS}"),
        (replace(GOOD, kept=KEPT - 0.01), "finds too little of what the old encoder found"),
        (replace(GOOD, unmapped_kept=GOOD.kept - GAIN + 0.01), "queries do as well without a map"),
    ],
)
def test_a_map_that_is_not_good_enough_is_not_offered_and_the_figures_say_why(quality: Quality, why: str) -> None:
    found = offer(quality)
    assert not found.yes
    assert why in found.why
    assert f"keeps {quality.kept:.2f} of the old top 10" in found.why


def test_the_borders_belong_to_the_offer() -> None:
    assert offer(replace(GOOD, pairs=PAIRS)).yes
    assert offer(replace(GOOD, kept=KEPT)).yes
    assert offer(replace(GOOD, unmapped_kept=None, unmapped_overlap=None)).yes


def test_real_queries_are_named_when_there_were_some() -> None:
    assert "35 real queries 0.66" in offer(replace(GOOD, queries=35, query_overlap=0.66)).why
    assert "real queries" not in offer(GOOD).why


def test_a_turned_space_is_offered_an_unrelated_one_is_not_and_an_equal_one_needs_none(spaces: Spaces) -> None:
    new, old = spaces(600, 24, 24, noise=0.05, seed=5)
    assert offer(best_map(new, old).quality).yes
    unrelated = np.random.default_rng(0).normal(size=(600, 24))
    assert "finds too little" in offer(fit(new, unrelated).quality).why
    assert "as well without a map" in offer(fit(old, old).quality).why
