"""The sparsity penalty is its formula and has its minimum where its paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from diptych_training.losses import ContrastiveLoss
from diptych_training.recipes.splade import ActiveTerms, Flops, flops, sparse_loss
from given_embeddings import Given, columns, drawn


def weights(seed: int, rows: int = 5, words: int = 12) -> torch.Tensor:
    """Term weights, about half of them 0."""
    return drawn(seed, rows, words).relu()


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


def test_both_sides_have_their_weights() -> None:
    model: Any = Given()
    queries, positives, negatives = weights(1), weights(2), weights(3)
    main = ContrastiveLoss(model, similarity="dot", tau=1.0)
    loss = sparse_loss(model, main, query_weight=0.3, document_weight=0.2)
    parts = loss(columns(queries, positives, negatives))
    assert parts["query_regularizer_loss"].item() == pytest.approx(0.3 * flops(queries).item())
    documents = torch.cat([positives, negatives])
    assert parts["document_regularizer_loss"].item() == pytest.approx(0.2 * flops(documents).item())
    logs = {"loss": 1.0}
    ActiveTerms(loss).on_log(None, None, None, logs=logs)
    assert logs["query_active_terms"] == pytest.approx((queries > 0).sum(1).float().mean().item(), abs=0.05)
    assert logs["document_active_terms"] == pytest.approx((documents > 0).sum(1).float().mean().item(), abs=0.05)
