"""UniDEC's loss is the two losses it joins."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from diptych.errors import ContractError
from diptych_training.losses import ContrastiveLoss, PSLLoss
from diptych_training.losses.contrastive import contrastive, symmetric_contrastive
from diptych_training.models.unidec import LabelTable
from diptych_training.relevance import Relevance
from given_embeddings import drawn

SEEDS = st.integers(0, 10_000)
PAIRS = [(0, 0), (0, 3), (1, 1), (2, 2), (2, 3), (2, 5)]
RELEVANCE = Relevance(PAIRS)


class Headed(torch.nn.Module):
    """A model that hands on what it is given for both heads, with a table of eight documents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = LabelTable(8, 4)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["given"], "classifier_embedding": features["given"][:, :4]}


def embeddings(seed: int = 0, documents: int = 6) -> list[Tensor]:
    return [drawn(seed + 1, 3, 8), drawn(seed + 2, documents, 8), drawn(seed + 3, 3, 4)]


def labels(documents: int = 6) -> Tensor:
    return torch.tensor([0, 1, 2, *range(documents)])


def target(documents: int = 6) -> Tensor:
    return torch.tensor([[(query, document) in PAIRS for document in range(documents)] for query in range(3)])


@pytest.mark.parametrize("reduction", ["decoupled", "supcon", "balanced"])
@pytest.mark.parametrize("classifier", ["dot", "cosine"])
def test_it_is_its_formula_over_both_heads(reduction: Any, classifier: str) -> None:
    model, (queries, documents, asked) = Headed(), embeddings()
    loss = PSLLoss(
        model, relevance=RELEVANCE, weight=0.3, reduction=reduction, classifier_similarity=classifier, dropout=0.0
    )
    rows, positive = model.table.weight[:6], target()
    if classifier == "cosine":
        asked, rows = normalize(asked), normalize(rows)
    terms = []
    for scores in (18 * normalize(queries) @ normalize(documents).T, 18 * asked @ rows.T):
        turned = contrastive(
            scores.T[[0, 1, 2, 3, 5]], positive.T[[0, 1, 2, 3, 5]], ~positive.T[[0, 1, 2, 3, 5]], reduction=reduction
        )
        terms.append((contrastive(scores, positive, ~positive, reduction=reduction) + turned) / 2)
    found = loss.compute_loss_from_embeddings(embeddings(), labels())
    assert found.item() == pytest.approx((0.3 * terms[0] + 0.7 * terms[1]).item(), rel=1e-5)


def test_the_dual_encoder_alone_is_the_contrastive_loss() -> None:
    for symmetric in (True, False):
        alone = PSLLoss(Headed(), relevance=RELEVANCE, weight=1.0, tau=0.1, symmetric=symmetric, dropout=0.0)
        wanted = ContrastiveLoss(Headed(), relevance=RELEVANCE, tau=0.1, symmetric=symmetric)
        found = alone.compute_loss_from_embeddings(embeddings(), labels()).item()
        assert found == pytest.approx(wanted.compute_loss_from_embeddings(embeddings()[:2], labels()).item(), rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_with_one_positive_each_reduction_is_infonce(seed: int) -> None:
    relevance = Relevance([(0, 0), (1, 1), (2, 2)])
    queries, documents, _ = embeddings(seed)
    wanted = cross_entropy(18 * normalize(queries) @ normalize(documents).T, torch.arange(3)).item()
    for reduction in ("decoupled", "supcon", "balanced"):
        loss = PSLLoss(Headed(), relevance=relevance, weight=1, reduction=reduction, symmetric=False, dropout=0.0)
        assert loss.compute_loss_from_embeddings(embeddings(seed), labels()).item() == pytest.approx(wanted, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_a_further_negative_in_the_pool_never_lowers_it(seed: int) -> None:
    for reduction in ("decoupled", "supcon", "balanced"):
        loss = PSLLoss(Headed(), relevance=RELEVANCE, reduction=reduction, dropout=0.0)
        queries, documents, asked = embeddings(seed, documents=8)  # 6 and 7 are relevant to nothing
        less = loss.compute_loss_from_embeddings([queries, documents[:6], asked], labels())
        for width in (7, 8):
            more = loss.compute_loss_from_embeddings([queries, documents[:width], asked], labels(width))
            assert more >= less - 1e-6
            less = more


def test_gradients_of_both_ways_are_those_of_finite_differences() -> None:
    scores, positive = drawn(6, 3, 6).double().requires_grad_(), target()
    for reduction in ("decoupled", "supcon", "balanced"):
        loss = partial(symmetric_contrastive, positive=positive, negative=~positive, reduction=reduction)
        assert torch.autograd.gradcheck(loss, scores)


def test_the_model_is_asked_once_for_both_heads_and_rows_out_of_the_pool_get_no_gradient() -> None:
    model = Headed()
    queries = drawn(1, 3, 8).requires_grad_()
    PSLLoss(model, relevance=RELEVANCE)([{"given": queries}, {"given": drawn(2, 6, 8)}], labels()).backward()
    assert queries.grad is not None
    assert (queries.grad != 0).all()
    assert model.table.weight.grad is not None
    assert (model.table.weight.grad[:6] != 0).any(1).all()
    assert (model.table.weight.grad[6:] == 0).all()


def test_dropout_is_for_training_alone() -> None:
    model = Headed()
    loss = PSLLoss(model, relevance=RELEVANCE, dropout=0.5)
    given = embeddings()
    assert loss.compute_loss_from_embeddings(given, labels()) != loss.compute_loss_from_embeddings(given, labels())
    model.eval()
    assert loss.compute_loss_from_embeddings(given, labels()) == loss.compute_loss_from_embeddings(given, labels())


def test_what_it_cannot_take_is_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)unusable weight.*1\.5.*from 0 to 1"):
        PSLLoss(Headed(), relevance=RELEVANCE, weight=1.5)
    with pytest.raises(ContractError, match=r"(?s)unknown similarity.*l2.*dot, cosine"):
        PSLLoss(Headed(), relevance=RELEVANCE, classifier_similarity="l2")
    with pytest.raises(ContractError, match=r"(?s)has no classifier.*got: Linear.*with_classifier"):
        PSLLoss(torch.nn.Linear(1, 1), relevance=RELEVANCE)
    loss = PSLLoss(Headed(), relevance=RELEVANCE)
    with pytest.raises(ContractError, match=r"(?s)some documents have no row in the table.*ids 0 to 9.*0 to 7"):
        loss.compute_loss_from_embeddings(embeddings(), torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 9]))
