"""Batches: every row once, near their budget of tokens, and the budget that real work was fastest with."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers", reason="needs diptych[torch]")

from diptych_adapters.engines.batches import BUDGETS, FEW, TRIALS, Budget, batches


def test_a_row_beyond_the_budget_comes_alone() -> None:
    assert [rows for _, rows in batches([10, 5000, 20], Budget())] == [[1], [2, 0]]


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


def test_rows_that_are_much_shorter_come_apart_once_there_are_some() -> None:
    lengths = [40] * 3 + [10] * 20
    sizes = [[lengths[row] for row in rows] for _, rows in batches(lengths, Budget())]
    assert sizes == [[40] * 3 + [10] * (FEW - 3), [10] * (20 - FEW + 3)]
