"""What a test draws with torch does not depend on the tests that ran before it."""

from __future__ import annotations

import pytest
import torch

DRAWN: list[float] = []


@pytest.mark.parametrize("draws", [1, 3])
def test_a_test_draws_the_same_numbers_whatever_was_drawn_before(draws: int) -> None:
    first = float(torch.rand(draws)[0])
    DRAWN.append(first)
    assert first == DRAWN[0]
    weights = torch.nn.Linear(2, 2).weight
    torch.manual_seed(67280421310721)
    torch.rand(draws)
    assert torch.equal(torch.nn.Linear(2, 2).weight, weights), "a process of torch begins with this seed"
