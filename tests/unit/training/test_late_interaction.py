"""Losses over the vectors of tokens: late interaction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diptych.errors import ContractError
from diptych_experimental.mw import FocalBCELoss, MannWhitneyLoss
from diptych_training.losses import (
    CachedLoss,
    ContrastiveLoss,
    DualMarginMSELoss,
    HybridNCELoss,
    KLDistillation,
    Mixing,
    SoftTopKLoss,
    with_extra_negatives,
)
from diptych_training.losses.base import similarities
from diptych_training.teacher_scores import own_scores
from given_embeddings import Given, drawn

SEEDS = st.integers(0, 10_000)


def tokens(seed: int, rows: int, most: int, width: int = 4) -> Tensor:
    """Unit vectors of one to `most` tokens a row, zeros for the others."""
    found = torch.nn.functional.normalize(drawn(seed, rows * most, width).double().reshape(rows, most, width), dim=-1)
    lengths = torch.randint(1, most + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    return found * (torch.arange(most)[None] < lengths[:, None])[..., None]


def by_hand(query: Tensor, document: Tensor) -> float:
    """The mean over the query's tokens of the best cosine."""
    asked, held = (part[part.any(-1)] for part in (query, document))
    return float((asked @ held.T).amax(1).mean())


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_a_similarity_is_the_mean_of_each_query_tokens_best(seed: int) -> None:
    queries, documents = tokens(seed, 3, 5), tokens(seed + 1, 4, 6)
    wanted = [[by_hand(query, document) for document in documents] for query in queries]
    torch.testing.assert_close(similarities(queries, documents).double(), torch.tensor(wanted).double())


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_own_scores_are_the_rows_own_similarities(seed: int) -> None:
    queries, documents = tokens(seed, 3, 5), tokens(seed + 1, 6, 6)
    whole = similarities(queries, documents)
    wanted = torch.stack([whole[torch.arange(3), torch.arange(3) + 3 * column] for column in range(2)], 1)
    torch.testing.assert_close(own_scores(queries, documents, 2), wanted)


LOSSES: list[Any] = [ContrastiveLoss, MannWhitneyLoss, SoftTopKLoss, HybridNCELoss, FocalBCELoss]


@pytest.mark.parametrize("make", LOSSES)
def test_one_token_a_text_is_a_vector_of_the_text(make: Any) -> None:
    columns = [drawn(seed, 6, 5) for seed in (1, 2, 3)]
    wanted = make(Given(), similarity="cosine").compute_loss_from_embeddings(columns)
    found = make(Given(), similarity="maxsim").compute_loss_from_embeddings([column[:, None] for column in columns])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("make", LOSSES)
def test_padding_changes_nothing_and_columns_may_be_of_any_length(make: Any) -> None:
    columns = [tokens(1, 6, 4), tokens(2, 6, 5), tokens(3, 6, 7)]
    longer = [torch.nn.functional.pad(column, (0, 0, 0, 3)) for column in columns]
    loss = make(Given(), similarity="maxsim")
    torch.testing.assert_close(
        loss.compute_loss_from_embeddings(longer), loss.compute_loss_from_embeddings(columns), rtol=1e-5, atol=1e-5
    )


def test_a_teacher_is_followed_over_tokens() -> None:
    columns = [tokens(seed, 4, 3).float().requires_grad_() for seed in (1, 2, 3)]
    teacher = torch.tensor([[3.0, -1.0]] * 4)
    loss = KLDistillation(Given(), similarity="maxsim")
    before = loss.compute_loss_from_embeddings(columns, teacher)
    before.backward()
    with torch.no_grad():
        for column in columns:
            assert column.grad is not None
            column -= 0.05 * column.grad
    assert loss.compute_loss_from_embeddings(columns, teacher) < before


class Tokens(torch.nn.Module):
    """Hands on tokens it is given, as an encoder for late interaction does."""

    def forward(self, features: dict[str, Tensor], task: str) -> dict[str, Tensor]:
        given = features["given"]
        return {"token_embeddings": given, "attention_mask": given.any(-1).long()}


def test_margins_are_those_of_tokens() -> None:
    columns, teacher = [tokens(seed, 4, 3).float() for seed in (1, 2, 3)], torch.tensor([[0.9, 0.1]] * 4)
    loss = DualMarginMSELoss(Tokens(), similarity="maxsim")
    own = own_scores(columns[0], torch.cat(columns[1:]), 2)
    wanted = (own[:, 0] - own[:, 1] - 0.8).square().mean()
    torch.testing.assert_close(loss([{"given": column} for column in columns], teacher), wanted)


def test_what_needs_vectors_of_whole_texts_is_refused() -> None:
    with pytest.raises(ContractError, match="tokens are not mixed"):
        with_extra_negatives(ContrastiveLoss(Given(), similarity="maxsim"), mixing=Mixing())
    with pytest.raises(ContractError, match="tokens are not mixed or kept"):
        with_extra_negatives(ContrastiveLoss(Given(), similarity="maxsim"), queue=8)
    with pytest.raises(ContractError, match="late interaction cannot be trained with cached"):
        CachedLoss(ContrastiveLoss(Given(), similarity="maxsim"))
