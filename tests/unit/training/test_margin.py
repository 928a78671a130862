"""The margin is part of the relevance mask: every loss leaves out the same negatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from diptych_experimental.lexlip_text import MomentumContrastiveLoss
from diptych_experimental.mw import FocalBCELoss, MannWhitneyLoss
from diptych_training.losses import ContrastiveLoss, HybridNCELoss, PSLLoss, SoftTopKLoss
from diptych_training.models.unidec import LabelTable
from diptych_training.relevance import Candidates, Relevance
from given_embeddings import Given, columns, drawn


class Headed(torch.nn.Module):
    """What `PSLLoss` wants of a model: a table of documents, here of six."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = LabelTable(6, 4)


def soft_top_1(model: Any, **options: Any) -> SoftTopKLoss:
    return SoftTopKLoss(model, k=1, **options)


@pytest.mark.parametrize("make", [ContrastiveLoss, MannWhitneyLoss, soft_top_1, HybridNCELoss, FocalBCELoss])
def test_what_is_above_the_margin_is_pushed_away_by_no_loss(make: Any) -> None:
    query, positive, other = drawn(1, 1, 8), drawn(2, 1, 8), drawn(3, 1, 8)
    for margin, pushed in ((-0.001, False), (0.001, True), (None, True)):
        copied = (0.99 * positive).requires_grad_()
        loss = make(Given(), relevance=Relevance(margin=margin), tau=0.5)
        loss(columns(query, positive, copied, other)).backward()
        assert copied.grad is not None
        assert bool((copied.grad != 0).any()) == pushed


def test_the_contrastive_losss_own_margin_stands_in_place_of_it() -> None:
    embeddings = columns(drawn(1, 6, 8), drawn(2, 6, 8))
    of_mask = ContrastiveLoss(Given(), relevance=Relevance(margin=0.1))
    own = ContrastiveLoss(Given(), relevance=Relevance(margin=5.0), margin=0.1)
    assert of_mask(embeddings) == own(embeddings) == ContrastiveLoss(Given(), margin=0.1)(embeddings)
    assert of_mask(embeddings) < ContrastiveLoss(Given())(embeddings)
    assert of_mask.get_config_dict()["margin"] == 0.1


def by_hand(similarity: Tensor, positive: Tensor, negative: Tensor, own: list[int], margin: float, tau: float) -> float:
    """InfoNCE of rows with one positive each, without what is above its similarity by more than the margin."""
    rows = []
    for row, place in enumerate(own):
        bar = similarity[row, place] + margin
        kept = negative[row] & (similarity[row] <= bar)
        assert positive[row].nonzero().tolist() == [[place]]
        if kept.any():
            scores = torch.cat([similarity[row, place][None], similarity[row][kept]]) / tau
            rows.append(scores.logsumexp(0) - scores[0])
    return float(torch.stack(rows).mean())


def test_both_heads_of_unidec_leave_out_what_the_dual_encoder_finds_too_near() -> None:
    model, pairs = Headed(), [(0, 0), (1, 1), (2, 2)]
    queries, documents, asked = drawn(1, 3, 8), drawn(2, 6, 8), drawn(3, 3, 4)
    labels = torch.tensor([0, 1, 2, *range(6)])
    loss: Any = PSLLoss(model, relevance=Relevance(pairs, margin=0.2), tau=0.5, dropout=0.0, symmetric=False)
    cosine = normalize(queries) @ normalize(documents).T
    positive = torch.eye(3, 6) > 0
    near = cosine > cosine.diagonal()[:, None] + 0.2
    assert (near & ~positive).any()
    dual = by_hand(cosine, positive, ~positive, [0, 1, 2], 0.2, 0.5)
    classifier = (asked @ model.table.weight[:6].T / 0.5).masked_fill(near, -torch.inf)
    own = torch.nn.functional.cross_entropy(classifier, torch.arange(3))
    found = loss.compute_loss_from_embeddings([queries, documents, asked], labels)
    assert found.item() == pytest.approx((dual + own.item()) / 2, rel=1e-5)


def test_the_momentum_queue_has_the_margin_too() -> None:
    loss = MomentumContrastiveLoss(Given(), momentum=0.0, tau=0.5, relevance=Relevance(margin=0.1))
    loss.model.weight = loss.twin.weight = torch.nn.Parameter(torch.ones(1))  # says where the model is
    old, new = [normalize(drawn(seed, 4, 6)) for seed in (1, 2)], [normalize(drawn(seed, 4, 6)) for seed in (3, 4)]
    loss(columns(*old))
    positive, wanted = torch.eye(4, 8) > 0, []
    for asking, pool in ((new[0], [new[1], old[1]]), (new[1], [new[0], old[0]])):
        similarity = asking @ torch.cat(pool).T
        assert (similarity[:, 4:] > similarity[:, :4].diagonal()[:, None] + 0.1).any()
        wanted.append(by_hand(similarity, positive, ~positive, [0, 1, 2, 3], 0.1, 0.5))
    assert loss(columns(*new)).item() == pytest.approx(sum(wanted) / 2, rel=1e-5)


def test_a_row_of_a_pool_without_a_positive_leaves_nothing_out() -> None:
    found = Candidates.pooled(torch.tensor([0, 1]), torch.tensor([4, 5, 6]), Relevance([(0, 5)]))
    kept = found.margin_filtered(torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]), 0.2)
    assert kept.negative.tolist() == [[False, False, True], [True, True, True]]
