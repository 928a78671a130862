from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from diptych.errors import SwapError
from diptych.protocols import Similarity
from diptych.slots.drift_maps import Map
from diptych.swap.drift import fit
from diptych.swap.drift.pairs import checked_pairs
from diptych.swap.drift.quality import measure, nearest, shared
from diptych.types import Floats

Spaces: TypeAlias = Callable[..., tuple[Floats, Floats]]
IDENTITY = Map("procrustes", np.eye(12, dtype=np.float32), np.zeros(12, np.float32))


def some(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(query: Any, documents: Any, similarity: Similarity) -> list[float]:
    if similarity == "euclidean":
        return [-float(np.sum((query - d) ** 2)) for d in documents]
    lengths = [np.linalg.norm(query) * np.linalg.norm(d) if similarity == "cosine" else 1.0 for d in documents]
    return [float(query @ d / length) for d, length in zip(documents, lengths, strict=True)]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_neighbours_are_those_of_a_loop_over_all(similarity: Similarity) -> None:
    queries, documents = some(300, 5), some(40, 5, seed=1)
    found, scores = nearest(queries, documents, 7, similarity=similarity)
    for query, rows in zip(queries, found, strict=True):
        by_score = by_hand(query, documents, similarity)
        assert list(rows) == sorted(range(40), key=lambda row: -by_score[row])[:7]
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_query_that_is_a_document_can_be_left_out_of_its_own_answer() -> None:
    rows = some(30, 5)
    found, _ = nearest(rows, rows, 100, similarity="cosine", but=np.arange(30))
    assert found.shape == (30, 29)
    assert not (found == np.arange(30)[:, None]).any()


def test_shared_counts_what_two_answers_have_in_common_in_any_order() -> None:
    one, other = np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), np.array([[4, 3, 2, 1], [4, 9, 8, 7]])
    np.testing.assert_array_equal(shared(one, other), [1.0, 0.25])


def test_a_perfect_map_of_an_unchanged_space_scores_one_everywhere() -> None:
    rows = some(200, 12)
    pairs = checked_pairs(rows, rows, new_similarity="cosine", old_similarity="cosine")
    found = measure(IDENTITY, pairs, np.arange(20), queries=some(7, 12, seed=3))
    values = (found.likeness, found.kept, found.overlap, found.old_overlap)
    assert values == pytest.approx((1, 1, 1, 1), abs=1e-6)
    assert (found.unmapped_kept, found.unmapped_overlap) == (1, 1)
    assert (found.queries, found.query_overlap, found.unmapped_query_overlap) == (7, 1, 1)
    assert (found.pairs, found.held_out) == (200, 20)


def test_overlaps_are_those_of_the_answers_themselves(spaces: Spaces) -> None:
    new, old = spaces(150, 12, 12, noise=0.5, seed=4)
    pairs = checked_pairs(new, old, new_similarity="cosine", old_similarity="cosine")
    held_out = np.array([3, 50, 149])
    found = measure(IDENTITY, pairs, held_out)

    def top(query: Any, documents: Any, row: int) -> set[int]:
        scores = by_hand(query, documents, "cosine")
        return set(sorted((i for i in range(150) if i != row), key=lambda i: -scores[i])[:10])

    target = [top(new[row], new, row) for row in held_out]
    by_old, by_new = ([top(side[row], old, row) for row in held_out] for side in (old, new))
    for one, other, value in (
        (by_old, target, found.old_overlap),
        (by_new, target, found.unmapped_overlap),
        (by_new, by_old, found.unmapped_kept),
    ):
        assert value == pytest.approx(np.mean([len(a & b) / 10 for a, b in zip(one, other, strict=True)]))
    assert (found.overlap, found.kept) == (found.unmapped_overlap, found.unmapped_kept)  # the map is the identity


def test_a_mapped_space_beats_an_unmapped_one_where_the_spaces_are_turned(spaces: Spaces) -> None:
    new, old = spaces(600, 24, 24, noise=0.05, seed=5)
    found = fit(new, old, queries=new[:30]).quality
    assert found.unmapped_overlap is not None
    assert found.query_overlap is not None
    assert found.unmapped_query_overlap is not None
    assert found.overlap > found.unmapped_overlap + 0.3
    assert found.query_overlap > found.unmapped_query_overlap + 0.3


def test_without_equal_dimensions_there_is_nothing_unmapped_to_compare_with(spaces: Spaces) -> None:
    found = fit(*spaces(100, 12, 8, noise=0.1, seed=6), queries=some(5, 12)).quality
    assert (found.unmapped_overlap, found.unmapped_query_overlap) == (None, None)
    assert found.queries == 5


def test_queries_of_another_space_are_refused(spaces: Spaces) -> None:
    new, old = spaces(100, 12, 8, noise=0.1, seed=6)
    with pytest.raises(SwapError, match=r"the queries have another shape\n  got: \(5, 8\)\n  expected: \[n, 12\]"):
        fit(new, old, queries=some(5, 8))
    assert fit(new, old, queries=[]).quality.queries == 0
