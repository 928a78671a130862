"""Mann-Whitney loss: every positive above every negative of the batch, so that scores compare across queries.

"MW loss": minimising it minimises an upper bound of 1 - AUC over the pooled scores, once divided by ln 2. It calibrates
(one threshold for all queries) and need not rank better.

Requirements: (query, positive) or (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import RetrievalLoss
from diptych_training.relevance import Relevance

CHUNK = 32  # positives that are compared at a time


class MannWhitneyLoss(RetrievalLoss):
    """The mean of softplus((s- - s+) / tau) over pairs of a positive and a negative score.

    Args:
        model: that is trained.
        tau: temperature; from 0.05 for tiny models, 0.01 in the paper.
        scope: whether a positive meets the negatives of the whole `batch`, or of its own `query` alone (RankNet, BPR).
        reduction: `mean` over pairs, or `published`: the sum over negatives, the mean over positives.
        relevance, similarity: see `RetrievalLoss`.
    """

    takes_further: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        scope: Literal["batch", "query"] = "batch",
        reduction: Literal["mean", "published"] = "mean",
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        for name, value, allowed in (
            ("scope", scope, ("batch", "query")),
            ("reduction", reduction, ("mean", "published")),
        ):
            if value not in allowed:
                raise ContractError(f"unknown {name}", where="MannWhitneyLoss", got=value, expected=", ".join(allowed))
        self.tau, self.scope, self.reduction = tau, scope, reduction

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        similarity, candidates = self.masked(embeddings, labels)
        return mann_whitney(
            similarity / self.tau, candidates.positive, candidates.negative, scope=self.scope, reduction=self.reduction
        )


def mann_whitney(
    scores: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    scope: Literal["batch", "query"] = "batch",
    reduction: Literal["mean", "published"] = "mean",
) -> Tensor:
    """The loss of scores `[B, M]`, already divided by tau; a scalar, 0 without a pair."""
    rows, columns = positive.nonzero(as_tuple=True)
    high = scores[rows, columns]
    total, pairs = scores.sum() * 0, 0
    for start in range(0, len(high), CHUNK):
        part = slice(start, start + CHUNK)
        low, counted = _compared(scores, negative, rows[part], scope)
        gaps = torch.nn.functional.softplus(low - high[part, None])
        total = total + torch.where(counted, gaps, torch.zeros_like(gaps)).sum()
        pairs += int(counted.sum())
    return total / max(1, pairs if reduction == "mean" else len(high))


def _compared(scores: Tensor, negative: Tensor, rows: Tensor, scope: str) -> tuple[Tensor, Tensor]:
    """The scores compared with the positives of these rows, and which of them count."""
    if scope == "query":
        return scores[rows], negative[rows]
    low = scores[negative]
    return low[None].expand(len(rows), -1), torch.ones(len(rows), len(low), dtype=torch.bool, device=scores.device)
