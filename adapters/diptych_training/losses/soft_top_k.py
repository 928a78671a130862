"""Soft top-k loss: the probability that a positive is among the k best.

DEXML: Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.

Requirements: (query, positive) or (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from diptych_training.losses.common.base import RetrievalLoss, mean_of_rows
from diptych_training.relevance import Relevance

STEPS = 60  # of bisection; float64 has no more to give


class _LogSoftTopK(torch.autograd.Function):
    """`log_soft_top_k` with its implicit gradient: t moves with the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: Tensor, alpha: float) -> Tensor:
        """t by bisection, then log p."""
        counted = scores > -torch.inf
        low = -scores.max(1).values - 30 / alpha
        high = -scores.masked_fill(~counted, torch.inf).min(1).values + 30 / alpha
        for _ in range(STEPS):
            middle = (low + high) / 2
            too_many = torch.sigmoid(alpha * (scores + middle[:, None])).sum(1) > k
            low, high = torch.where(too_many, low, middle), torch.where(too_many, middle, high)
        logs = torch.nn.functional.logsigmoid(alpha * (scores + ((low + high) / 2)[:, None]))
        ctx.save_for_backward(logs)
        ctx.alpha = alpha
        return logs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the scores."""
        (logs,) = ctx.saved_tensors
        share = logs.exp()
        rest = 1 - share
        direct = ctx.alpha * upstream[0] * rest
        weight = share * rest
        moved = direct.sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        return direct - weight * moved, None, None


def log_soft_top_k(scores: Tensor, k: Tensor, alpha: float) -> Tensor:
    """log p of `p_j = sigmoid(alpha (x_j + t))`, with t such that the p of a row add up to k.

    Args:
        scores: `[B, M]`, -inf for what does not count.
        k: `[B]`, above 0 and below the number of scores that count.
        alpha: slope.
    """
    apply: Callable[..., Tensor] = _LogSoftTopK.apply  # annotated in some releases of torch only
    return apply(scores, k, alpha)


class SoftTopKLoss(RetrievalLoss):
    """The mean over a row's positives of -log p, p the soft top-k of its scores.

    Args:
        model: that is trained.
        k: how many are the best; None takes each row's number of positives. Below the number of candidates.
        alpha: slope, on similarities that are divided by `tau`.
        tau: temperature.
        sample_positives: how many positives of a row are drawn for a step, the others left out; None takes all.
        relevance, similarity: see `RetrievalLoss`.
    """

    takes_further: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        k: int | None = 5,
        alpha: float = 2.0,
        tau: float = 0.05,
        sample_positives: int | None = None,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        self.k, self.alpha, self.tau, self.sample_positives = k, alpha, tau, sample_positives

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; rows with fewer than k + 1 candidates do not count."""
        similarity, candidates = self.masked(embeddings, labels)
        candidates = candidates if self.sample_positives is None else candidates.sampled(self.sample_positives)
        counted = candidates.positive | candidates.negative
        sizes, positives = counted.sum(1), candidates.positive.sum(1)
        k = positives if self.k is None else torch.full_like(sizes, self.k)
        rows = (positives > 0) & (k < sizes)
        scores = (similarity / self.tau).masked_fill(~counted, -torch.inf)
        logs = log_soft_top_k(scores, torch.minimum(k, sizes - 1).to(scores), self.alpha)
        row_logs = torch.where(candidates.positive, logs, torch.zeros_like(logs)).sum(1)
        return mean_of_rows(-row_logs / positives.clamp(min=1), rows)
