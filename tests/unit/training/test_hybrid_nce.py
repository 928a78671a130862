"""Hybrid-NCE is InfoNCE without groups and hardness, and does with them what it says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych_training.losses.contrastive import ContrastiveLoss
from diptych_training.losses.hybrid_nce import Groups, HybridNCELoss
from given_embeddings import Given, columns, drawn

LABELS = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]])
GROUPS = Groups({0: [1, 2], 1: [1, 2], 2: [2, 3], 3: []})


def test_without_groups_and_hardness_it_is_infonce() -> None:
    embeddings = columns(drawn(1, 6, 8), drawn(2, 6, 8))
    for symmetric in (False, True):
        hybrid = HybridNCELoss(Given(), beta=0, symmetric=symmetric)(embeddings)
        assert hybrid.item() == pytest.approx(
            ContrastiveLoss(Given(), symmetric=symmetric)(embeddings).item(), abs=1e-5
        )


def test_the_loss_rises_with_hardness() -> None:
    embeddings = columns(drawn(1, 6, 8), drawn(2, 6, 8))
    losses = [HybridNCELoss(Given(), beta=beta)(embeddings).item() for beta in (0, 0.1, 0.25, 0.5, 1)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_the_weights_of_negatives_have_a_mean_of_1() -> None:
    scores = 10 * drawn(3, 4, 7)
    negative = torch.arange(7)[None] >= torch.tensor([1, 2, 3, 5])[:, None]
    weights = HybridNCELoss(Given(), beta=0.3)._hardness(scores, negative).exp()
    means = (weights * negative).sum(1) / negative.sum(1)
    assert torch.allclose(means, torch.ones(4), atol=1e-5)


def test_overlap_is_intersection_over_union() -> None:
    ids = torch.tensor([0, 1, 2, 3, -1, 99])
    assert GROUPS(ids[:1], ids).tolist()[0] == pytest.approx([1.0, 1.0, 1 / 3, 0.0, 0.0, 0.0])


def test_a_document_of_the_same_groups_is_no_negative_even_without_weight() -> None:
    queries, documents = drawn(1, 4, 8), drawn(2, 4, 8)
    plain = HybridNCELoss(Given(), beta=0)(columns(queries, documents), LABELS)
    masked = HybridNCELoss(Given(), beta=0, groups=GROUPS, further=0.0)(columns(queries, documents), LABELS)
    soft = HybridNCELoss(Given(), beta=0, groups=GROUPS, further=0.5)(columns(queries, documents), LABELS)
    assert masked < plain
    assert soft < masked
    wider = HybridNCELoss(Given(), beta=0, groups=GROUPS, further=0.0, iou_min=0.3)(columns(queries, documents), LABELS)
    assert wider < masked


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_the_loss_of_any_batch_rises_with_hardness(seed: int) -> None:
    embeddings = columns(drawn(seed, 6, 8), drawn(seed + 1, 6, 8))
    losses = [HybridNCELoss(Given(), beta=beta)(embeddings).item() for beta in (0.0, 0.1, 0.5, 1.0, 2.0)]
    assert all(later >= before - 1e-5 for before, later in pairwise(losses))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_gradients_are_those_of_finite_differences(alpha: float) -> None:
    scores, negative = drawn(4, 3, 6).double().requires_grad_(), torch.arange(6)[None].expand(3, 6) > 1
    weights = torch.where(negative, 0.0, torch.tensor([1.0, 0.2, 0, 0, 0, 0])[None]).double()
    loss = HybridNCELoss(Given(), alpha=alpha, beta=0.3, detach_weights=False)
    assert torch.autograd.gradcheck(lambda s: loss._of(s, weights, negative), scores)
