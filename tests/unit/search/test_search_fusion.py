"""The fusion formulas, against the same formulas written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.search import Dbsf, Fusion, Linear, Rrf
from diptych.search.fusion import Ranking, contributions, fuse

A: Ranking = [(1, 9.0), (2, 7.0), (3, 2.0)]
B: Ranking = [(3, 0.9), (4, 0.5)]


def test_dbsf_gives_one_half_where_nothing_deviates() -> None:
    assert dict(fuse(Dbsf(), {"a": [(1, 5.0)], "b": [(1, 2.0), (2, 2.0)]})) == {1: 1.0, 2: 0.5}


def test_missing_counts_that_many_deviations_wherever_a_slot_did_not_find_a_document() -> None:
    scores = np.array([9.0, 7.0, 2.0])
    z = (scores - scores.mean()) / scores.std(ddof=1)
    parts = contributions(Linear("zscore", {"a": 2.0}, missing=-1.0), {"a": A, "b": B, "c": []})
    assert parts[1] == pytest.approx({"a": 2 * z[0], "b": -1.0, "c": -1.0})
    assert parts[4] == pytest.approx({"a": -2.0, "b": -(0.5**0.5), "c": -1.0})


@pytest.mark.parametrize("normalize", ["minmax", "zscore"])
def test_a_slot_whose_scores_are_all_equal_still_prefers_what_it_found(normalize: str) -> None:
    fusion = Linear(normalize)  # type: ignore[arg-type]
    parts = contributions(fusion, {"a": [(1, 4.0)], "b": [(2, 1.0), (3, 0.5)]})
    assert [parts[point]["a"] for point in (1, 2, 3)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("fusion", [Rrf(), Dbsf(), Linear(), Linear("zscore")], ids=repr)
def test_a_slot_without_candidates_adds_nothing(fusion: Fusion) -> None:
    assert fuse(fusion, {"a": A, "b": []}) == fuse(fusion, {"a": A})


rankings = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(st.integers(0, 30), st.floats(-100, 100, width=32), min_size=1, max_size=12),
    min_size=1,
).map(lambda slots: {name: sorted(found.items(), key=lambda pair: -pair[1]) for name, found in slots.items()})


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    rankings, st.sampled_from([Rrf(), Rrf(3, {}), Dbsf(), Linear(), Linear("zscore"), Linear("zscore", missing=-1.0)])
)
def test_parts_add_up_and_the_order_is_that_of_the_sums(slots: dict[str, Ranking], fusion: Fusion) -> None:
    fused = fuse(fusion, slots)
    parts = contributions(fusion, slots)
    assert {point for point, _ in fused} == {point for found in slots.values() for point, _ in found}
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)
    assert all(score == pytest.approx(sum(parts[point].values())) for point, score in fused)
