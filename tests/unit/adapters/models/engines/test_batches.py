"""Batches: every row once, near their budget of tokens, and the budget that real work was fastest with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="needs diptych[torch]")

from diptych_adapters.engines.batches import BUDGETS, FEW, TRIALS, Budget, batches, padded, whole_vectors


def test_every_row_comes_once_the_longest_first_within_the_budget() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(1, 300, 500)]
    found = [rows for _, rows in batches(lengths, Budget())]
    assert sorted(row for rows in found for row in rows) == list(range(500))
    longest = [max(lengths[row] for row in rows) for rows in found]
    assert longest == sorted(longest, reverse=True)
    assert all(len(rows) * most <= BUDGETS[0] for rows, most in zip(found, longest, strict=True))


def test_a_row_beyond_the_budget_comes_alone() -> None:
    assert [rows for _, rows in batches([10, 5000, 20], Budget())] == [[1], [2, 0]]


def test_no_more_rows_come_at_once_than_are_allowed() -> None:
    assert [rows for _, rows in batches([3, 3, 3, 3, 3], Budget(), 2)] == [[0, 1], [2, 3], [4]]


def test_rows_are_filled_up_and_the_mask_says_where() -> None:
    inputs, mask = padded([np.array([[5, 6, 7], [0, 0, 1]]), np.array([[8], [1]])], pad=9)
    assert inputs.tolist() == [[[5, 6, 7], [8, 9, 9]], [[0, 0, 1], [1, 0, 0]]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_rows_are_filled_up_to_a_width_that_is_asked_for_and_never_cut() -> None:
    rows = [np.array([[5, 6, 7]]), np.array([[8]])]
    inputs, mask = padded(rows, pad=9, width=5)
    assert inputs.tolist() == [[[5, 6, 7, 9, 9], [8, 9, 9, 9, 9]]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert padded(rows, pad=9, width=2)[0].shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("longest", "most", "width"),
    [(190, 256, 192), (192, 256, 192), (181, 256, 192), (180, 256, 0), (9, 256, 0), (190, 191, 0), (190, None, 0)],
)
def test_attention_gets_whole_vectors_where_that_takes_few_tokens_and_the_model_reads_as_many(
    longest: int, most: int | None, width: int
) -> None:
    assert whole_vectors(longest, most) == width


@pytest.mark.parametrize("fastest", BUDGETS)
def test_each_budget_is_tried_and_the_fastest_kept(fastest: int) -> None:
    budget, tried = Budget(), list[int]()
    for _ in range(TRIALS * len(BUDGETS)):
        size = budget.tokens
        tried.append(size)
        budget.note(size, size, 1.0 if size == fastest else 2.0 * size / fastest)
    assert sorted(tried) == sorted(BUDGETS * TRIALS)
    assert budget.tokens == fastest
    budget.note(fastest, fastest, 1000.0)
    assert budget.tokens == fastest


def test_a_batch_that_is_far_from_full_tells_nothing_of_its_budget() -> None:
    budget = Budget()
    for _ in range(100):
        budget.note(budget.tokens, 10, 1.0)
    assert budget.tokens == BUDGETS[0]


def test_other_sizes_are_tried_where_they_are_given() -> None:
    budget = Budget((10, 20))
    for _ in range(2 * TRIALS):
        budget.note(budget.tokens, budget.tokens, 1.0)
    assert budget.tokens == 20


def test_rows_that_are_much_shorter_come_apart_once_there_are_some() -> None:
    lengths = [40] * 3 + [10] * 20
    sizes = [[lengths[row] for row in rows] for _, rows in batches(lengths, Budget())]
    assert sizes == [[40] * 3 + [10] * (FEW - 3), [10] * (20 - FEW + 3)]
