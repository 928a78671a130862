"""The sparsity penalty is its formula and has its minimum where its paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from diptych_training.recipes.splade import Flops, flops
from given_embeddings import Given, drawn


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
