"""Caching gradients changes no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diptych_experimental.mw import MannWhitneyLoss
from diptych_training.losses import CachedLoss, ContrastiveLoss
from given_embeddings import drawn


class Projecting(torch.nn.Module):
    """A model with a weight and dropout, over features that sentence-transformers can cut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.dropout = torch.nn.Linear(8, 6), torch.nn.Dropout(0.0)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.dropout(self.layer(features["input_ids"]))}


@pytest.mark.parametrize("make", [ContrastiveLoss, MannWhitneyLoss])
@pytest.mark.parametrize("size", [2, 3, 100])
def test_the_gradient_is_that_of_the_whole_batch(make: Any, size: int) -> None:
    given = [{"input_ids": drawn(seed, 7, 8), "attention_mask": torch.ones(7, 8)} for seed in (1, 2, 3)]
    plain = make(Projecting())
    cached = CachedLoss(make(Projecting()), mini_batch_size=size)
    wanted, found = plain(given), cached(given)
    wanted.backward()
    found.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.allclose(cached.model.layer.weight.grad, plain.model.layer.weight.grad, atol=1e-5)


def test_a_learned_temperature_gets_its_gradient() -> None:
    given = [{"input_ids": drawn(seed, 7, 8), "attention_mask": torch.ones(7, 8)} for seed in (1, 2)]
    plain = ContrastiveLoss(Projecting(), learn_tau=True, tau=0.5)
    cached = CachedLoss(ContrastiveLoss(Projecting(), learn_tau=True, tau=0.5), mini_batch_size=2)
    plain(given).backward()
    cached(given).backward()
    found, wanted = cached.loss.log_scale.grad, plain.log_scale.grad
    assert isinstance(found, torch.Tensor)
    assert isinstance(wanted, torch.Tensor)
    assert torch.allclose(found, wanted)


def test_without_gradients_it_is_the_loss_itself() -> None:
    given = [{"input_ids": drawn(seed, 7, 8), "attention_mask": torch.ones(7, 8)} for seed in (1, 2)]
    loss = ContrastiveLoss(Projecting())
    with torch.no_grad():
        assert CachedLoss(loss, mini_batch_size=3)(given).item() == pytest.approx(loss(given).item(), rel=1e-5)
