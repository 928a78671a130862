"""Soft top-k adds up to k, and its gradient is that of finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diptych_training.losses.listwise import SoftTopKLoss, log_soft_top_k
from diptych_training.relevance import Relevance
from given_embeddings import Given, columns, drawn


def soft(scores: Tensor, k: float, alpha: float = 2.0) -> Tensor:
    return log_soft_top_k(scores, torch.full_like(scores[:, 0], k), alpha).exp()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 7), shift=st.floats(-50, 50))
def test_it_adds_up_to_k_whatever_is_added_to_all_scores(seed: int, k: int, shift: float) -> None:
    scores = 5 * drawn(seed, 4, 8).double()
    assert torch.allclose(soft(scores, k).sum(1), torch.full((4,), float(k)).double(), atol=1e-9)
    assert torch.allclose(soft(scores + shift, k), soft(scores, k), atol=1e-9)


def test_a_steep_slope_is_the_hard_top_k() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.3, 0.7]]).double()
    assert torch.allclose(soft(scores, 2, 400.0), torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]]).double(), atol=1e-6)


def test_what_does_not_count_has_no_share() -> None:
    scores = drawn(1, 2, 6).double()
    scores[:, 3] = -torch.inf
    found = soft(scores, 2)
    assert (found[:, 3] == 0).all()
    assert torch.allclose(found.sum(1), torch.full((2,), 2.0).double())


def test_the_gradient_is_that_of_finite_differences() -> None:
    scores = drawn(2, 3, 6).double().requires_grad_()
    k = torch.tensor([1.0, 2.0, 3.0]).double()
    assert torch.autograd.gradcheck(lambda s: log_soft_top_k(s, k, 1.5), scores, atol=1e-6)


def test_the_loss_falls_as_positives_climb_and_masks_them_from_each_other() -> None:
    relevance = Relevance([(0, 0), (0, 1)])
    labels = torch.tensor([[0, 0, 2, 3], [1, 4, 5, 6]])
    queries, documents = drawn(1, 2, 8), [drawn(seed, 2, 8) for seed in (2, 3, 4)]
    better = [queries + 0.1 * documents[0], *documents[1:]]
    loss = SoftTopKLoss(Given(), k=2, relevance=relevance)
    assert loss(columns(queries, *better), labels) < loss(columns(queries, *documents), labels)


@pytest.mark.parametrize("tau", [0.05, 0.4])
def test_the_loss_is_minus_log_p_of_cosines_over_tau(tau: float) -> None:
    queries, documents = drawn(1, 4, 8), drawn(2, 4, 8)
    cosines = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(documents).T
    wanted = -soft(cosines.double() / tau, 2, 1.5).diagonal().log().mean()
    found = SoftTopKLoss(Given(), k=2, alpha=1.5, tau=tau)(columns(queries, documents))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("k", [None, 3])
def test_gradients_stay_finite_at_sharp_temperatures(k: int | None) -> None:
    queries, documents = drawn(1, 8, 16).requires_grad_(), drawn(2, 8, 16).requires_grad_()
    SoftTopKLoss(Given(), k=k, tau=0.005)(columns(queries, documents)).backward()
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


def test_rows_with_too_few_candidates_do_not_count() -> None:
    queries, documents = drawn(1, 2, 4).requires_grad_(), drawn(2, 2, 4)
    loss = SoftTopKLoss(Given(), k=5)(columns(queries, documents))
    loss.backward()
    assert loss.item() == 0.0
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6), alpha=st.floats(0.5, 4))
def test_its_jacobian_is_the_published_one(seed: int, k: int, alpha: float) -> None:
    scores = drawn(seed, 1, 8).double()
    jacobian: Any = torch.autograd.functional.jacobian
    found = jacobian(lambda s: soft(s[None], k, alpha)[0], scores[0])
    share = soft(scores, k, alpha)[0]
    weight = alpha * share * (1 - share)
    wanted = weight.diag() - weight[:, None] * weight[None] / weight.sum()
    assert torch.allclose(found, wanted, atol=1e-9)
