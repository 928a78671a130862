"""The sparsity penalty is its formula and has its minimum where its paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from diptych_training.lexicon import ActiveTerms, Flops, NonNegative, SparseLoss, active_terms, flops
from diptych_training.losses import ContrastiveLoss
from given_embeddings import Given, columns, drawn

SEEDS = st.integers(0, 10_000)


def weights(seed: int, rows: int = 5, words: int = 12) -> torch.Tensor:
    """Term weights, about half of them 0."""
    return drawn(seed, rows, words).relu()


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, row=st.integers(0, 4), word=st.integers(0, 11))
def test_it_is_zero_only_when_all_weights_are(seed: int, row: int, word: int) -> None:
    nothing = torch.zeros(5, 12)
    assert flops(nothing) == 0
    nothing[row, word] = 0.01 + torch.rand((), generator=torch.Generator().manual_seed(seed))
    assert flops(nothing) > 0


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, mass=st.floats(0.1, 50))
def test_of_all_ways_to_lay_out_a_mass_the_even_one_is_least(seed: int, mass: float) -> None:
    some = weights(seed).double() + 1e-6
    some = some * mass / some.sum()
    even = torch.full_like(some, mass / some.numel())
    assert flops(even) <= flops(some) + 1e-12
    assert flops(even).item() == pytest.approx((mass / 5) ** 2 / 12)


def test_it_is_that_of_sentence_transformers() -> None:
    model: Any = Given()
    wanted = FlopsLoss(model).compute_loss_from_embeddings(weights(3))
    assert flops(weights(3)).item() == pytest.approx(wanted.item())
    assert Flops().compute_loss_from_embeddings(weights(3)).item() == pytest.approx(wanted.item())


def test_terms_are_counted_between_two_looks() -> None:
    penalty = Flops()
    penalty.compute_loss_from_embeddings(torch.tensor([[1.0, 0, 2.0], [0, 0, 1.0]]))
    penalty.compute_loss_from_embeddings(torch.tensor([[1.0, 1.0, 1.0]]).to_sparse())
    assert penalty.pop_mean() == pytest.approx(2.0)
    assert penalty.pop_mean() is None
    assert active_terms(torch.tensor([[1.0, 0], [0, 0]])).tolist() == [1, 0]


def test_both_sides_have_their_weights() -> None:
    model: Any = Given()
    queries, positives, negatives = weights(1), weights(2), weights(3)
    main = ContrastiveLoss(model, similarity="dot", tau=1.0)
    loss = SparseLoss(model, main, query_weight=0.3, document_weight=0.2)
    parts = loss(columns(queries, positives, negatives))
    assert parts["query_regularizer_loss"].item() == pytest.approx(0.3 * flops(queries).item())
    documents = torch.cat([positives, negatives])
    assert parts["document_regularizer_loss"].item() == pytest.approx(0.2 * flops(documents).item())
    logs = {"loss": 1.0}
    ActiveTerms(loss).on_log(None, None, None, logs=logs)
    assert logs["query_active_terms"] == pytest.approx((queries > 0).sum(1).float().mean().item(), abs=0.05)
    assert logs["document_active_terms"] == pytest.approx((documents > 0).sum(1).float().mean().item(), abs=0.05)


def test_static_weights_are_brought_back_to_zero() -> None:
    side = torch.nn.Parameter(torch.tensor([-1.0, 0.5, 0.0]))
    NonNegative(side).on_step_end(None, None, None)
    assert side.tolist() == [0.0, 0.5, 0.0]
