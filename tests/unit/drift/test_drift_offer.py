from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest

from diptych.swap.drift import Quality, best_map, fit, offer
from diptych.swap.drift.quality import GAIN, LIKENESS, PAIRS
from diptych.types import Floats

Spaces: TypeAlias = Callable[..., tuple[Floats, Floats]]

GOOD = Quality("ridge", 1000, 100, 0.93, 0.75, 0.71, 0.69, unmapped_kept=0.41, unmapped_overlap=0.42)


def test_a_good_map_is_offered_with_its_figures() -> None:
    found = offer(GOOD)
    assert found.yes
    assert found.good
    assert found.why == (
        "the map comes near enough to the old vectors (asked: 0.80). Measured of ridge on 100 of 1000 documents that "
        "both encoded: likeness 0.93; of the old encoder's top 10 kept 0.75 (without a map 0.41); in common with a "
        "full re-encode 0.71 (without a map 0.42), the old encoder itself 0.69"
    )


@pytest.mark.parametrize(
    ("quality", "why", "unmapped"),
    [
        (replace(GOOD, pairs=PAIRS - 1), f"{PAIRS - 1} pairs are too few to judge a map by: back-fill {PAIRS}", False),
        (replace(GOOD, likeness=LIKENESS - 0.01), "does not come near enough to the old vectors (asked: 0.80)", False),
        (replace(GOOD, unmapped_kept=GOOD.kept - GAIN + 0.01), "queries do as well without a map", True),
        (replace(GOOD, query_overlap=0.7, unmapped_query_overlap=0.7), "queries do as well without a map", True),
    ],
)
def test_a_map_that_is_not_good_enough_is_not_offered_and_the_figures_say_why(
    quality: Quality, why: str, unmapped: bool
) -> None:
    found = offer(quality)
    assert (found.yes, found.unmapped, found.good) == (False, unmapped, unmapped)
    assert why in found.why
    assert f"likeness {quality.likeness:.2f}" in found.why


def test_the_borders_belong_to_the_offer() -> None:
    assert offer(replace(GOOD, pairs=PAIRS)).yes
    assert offer(replace(GOOD, likeness=LIKENESS)).yes
    assert offer(replace(GOOD, unmapped_kept=None, unmapped_overlap=None)).yes


def test_real_queries_decide_over_documents_whether_mapping_gains() -> None:
    asked = replace(GOOD, queries=35, query_overlap=0.66, unmapped_query_overlap=0.61)
    found = offer(replace(asked, unmapped_kept=0.99))
    assert found.yes
    assert "the same with 35 real queries 0.66 (without a map 0.61)" in found.why
    assert not offer(replace(asked, unmapped_query_overlap=0.67)).yes


def test_a_turned_space_is_offered_an_unrelated_one_is_not_and_an_equal_one_needs_none(spaces: Spaces) -> None:
    new, old = spaces(600, 24, 24, noise=0.05, seed=5)
    assert offer(best_map(new, old).quality).yes
    unrelated = np.random.default_rng(0).normal(size=(600, 24))
    assert "does not come near enough" in offer(fit(new, unrelated).quality).why
    assert "as well without a map" in offer(fit(old, old).quality).why
