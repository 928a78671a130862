"""Hybrid-NCE is InfoNCE without groups and hardness, and does with them what it says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from diptych_training.losses.contrastive import ContrastiveLoss, Groups, HybridNCELoss
from diptych_training.relevance import Relevance
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


def by_hand(scores: Tensor, positive: Tensor, overlap: Tensor, detach: bool) -> Tensor:
    """Hybrid-NCE row by row, with alpha 0.5, beta 0.3, lambda 0.4 and further positives from an overlap of 0.3."""
    rows = []
    for own, mine, shared in zip(scores, positive.tolist(), overlap.tolist(), strict=True):
        weights = [1.0 if mine[j] else 0.4 * shared[j] if shared[j] >= 0.3 else 0.0 for j in range(len(mine))]
        high = sum((w * own[j].exp() for j, w in enumerate(weights)), own.new_zeros(()))
        low = own[[j for j, w in enumerate(weights) if w == 0]]
        hardness = (0.3 * (low.detach() if detach else low)).exp()
        negatives = (hardness / hardness.mean() * low.exp()).sum()
        rows.append(-(high / (0.5 * high + negatives)).log())
    return torch.stack(rows).mean()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("symmetric", [False, True])
def test_it_is_its_formula_and_gradient_with_every_switch(detach: bool, symmetric: bool) -> None:
    embeddings = [drawn(seed, 4, 8).double().requires_grad_() for seed in (1, 2, 3)]
    overlap = torch.tensor([[1, 1, 1 / 3, 0], [1, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 0], [0, 0, 0, 0]]).double()
    overlap = torch.nn.functional.pad(overlap, (0, 4))  # the hard negatives have no groups
    scores = normalize(embeddings[0]) @ normalize(torch.cat(embeddings[1:])).T / 0.2
    positive = torch.eye(4, 8).double()
    positive[0, 3] = 1  # by judgement; no document has the groups of document 3, itself included
    wanted = by_hand(scores, positive, overlap, detach)
    if symmetric:
        wanted = (wanted + by_hand(scores.T[:4], positive.T[:4], overlap.T[:4], detach)) / 2
    loss = HybridNCELoss(
        Given(),
        groups=GROUPS,
        tau=0.2,
        alpha=0.5,
        beta=0.3,
        further=0.4,
        iou_min=0.3,
        detach_weights=detach,
        symmetric=symmetric,
        relevance=Relevance([(0, 3)]),
    )
    found = loss(columns(*embeddings), torch.tensor([[n, n, 10 + n] for n in range(4)]))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    pairs = zip(*(torch.autograd.grad(value, embeddings) for value in (found, wanted)), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)


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
