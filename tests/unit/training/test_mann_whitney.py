"""The Mann-Whitney loss bounds what it says it bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ContractError
from diptych_experimental.mw import MannWhitneyLoss, mann_whitney
from diptych_training.losses.contrastive import contrastive
from given_embeddings import Given, columns, drawn

SEEDS = st.integers(0, 10_000)
EYE = torch.eye(6, 12, dtype=torch.bool)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, tau=st.floats(0.01, 2))
def test_over_ln_2_it_bounds_the_share_of_wrong_pairs(seed: int, tau: float) -> None:
    scores = drawn(seed, 6, 12).double()
    wrong = (scores[EYE][:, None] <= scores[~EYE][None]).double().mean()
    assert mann_whitney(scores / tau, EYE, ~EYE) / math.log(2) >= wrong - 1e-9


def test_it_is_the_mean_over_all_pairs() -> None:
    scores = drawn(1, 6, 12).double()
    wanted = torch.nn.functional.softplus(scores[~EYE][None] - scores[EYE][:, None])
    assert mann_whitney(scores, EYE, ~EYE).item() == pytest.approx(wanted.mean().item())
    published = mann_whitney(scores, EYE, ~EYE, reduction="published")
    assert published.item() == pytest.approx(wanted.sum(1).mean().item())


def test_chunks_change_nothing() -> None:
    scores, positive = drawn(2, 50, 100).double(), torch.eye(50, 100, dtype=torch.bool)
    wanted = torch.nn.functional.softplus(scores[~positive][None] - scores[positive][:, None]).mean()
    assert mann_whitney(scores, positive, ~positive).item() == pytest.approx(wanted.item())


def test_a_shift_of_one_query_moves_it_and_leaves_infonce_as_it_was() -> None:
    scores = drawn(3, 6, 12).double()
    shifted = scores + torch.tensor([5.0, 0, 0, 0, 0, 0])[:, None]
    assert contrastive(shifted, EYE, ~EYE).item() == pytest.approx(contrastive(scores, EYE, ~EYE).item())
    assert mann_whitney(shifted, EYE, ~EYE) > mann_whitney(scores, EYE, ~EYE) + 0.1
    assert mann_whitney(scores + 5, EYE, ~EYE).item() == pytest.approx(mann_whitney(scores, EYE, ~EYE).item())
    own = mann_whitney(scores, EYE, ~EYE, scope="query")
    assert mann_whitney(shifted, EYE, ~EYE, scope="query").item() == pytest.approx(own.item())


def test_in_the_scope_of_a_query_each_positive_meets_the_negatives_of_its_own_row() -> None:
    scores, lots = drawn(3, 5, 9).double(), torch.rand(5, 9, generator=torch.Generator().manual_seed(4))
    positive, negative = lots < 0.3, lots > 0.5  # between them is what does not count
    gaps = [
        torch.nn.functional.softplus(scores[row, low] - scores[row, high]).item()
        for row in range(5)
        for high in positive[row].nonzero()[:, 0].tolist()
        for low in negative[row].nonzero()[:, 0].tolist()
    ]
    assert len({tuple(row) for row in negative.tolist()}) == 5
    found = mann_whitney(scores, positive, negative, scope="query")
    assert found.item() == pytest.approx(sum(gaps) / len(gaps))
    published = mann_whitney(scores, positive, negative, scope="query", reduction="published")
    assert published.item() == pytest.approx(sum(gaps) / int(positive.sum()))


def test_gradients_are_those_of_finite_differences() -> None:
    scores = drawn(4, 3, 5).double().requires_grad_()
    positive = torch.eye(3, 5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda s: mann_whitney(s, positive, ~positive), scores)


def test_the_module_divides_by_tau_and_knows_its_options() -> None:
    queries, documents = drawn(1, 4, 8), drawn(2, 4, 8)
    normal = torch.nn.functional.normalize
    wanted = mann_whitney(normal(queries) @ normal(documents).T / 0.1, torch.eye(4) > 0, torch.eye(4) < 1)
    assert MannWhitneyLoss(Given(), tau=0.1)(columns(queries, documents)).item() == pytest.approx(
        wanted.item(), abs=1e-5
    )
    with pytest.raises(ContractError, match=r"(?s)unknown scope.*'?all'?.*batch, query"):
        MannWhitneyLoss(Given(), scope="all")  # type: ignore[arg-type]


def test_without_a_pair_it_is_0_with_a_gradient() -> None:
    scores = drawn(5, 2, 2).requires_grad_()
    loss = mann_whitney(scores, torch.ones(2, 2) > 0, torch.ones(2, 2) < 0)
    loss.backward()
    assert loss.item() == 0.0
