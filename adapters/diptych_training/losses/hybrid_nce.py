"""Hybrid-NCE: softly weighted further positives and negatives weighted by their hardness.

Of AuroLA (audio-text retrieval with a multimodal language model); here for any documents that carry sets, such as tags.

Requirements: (query, positive) or (query, positive, negative_1, ...) columns, with ids `[B, 2 + H]` as labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from diptych_training.losses.common.base import RetrievalLoss, logsumexp_where, mean_of_rows
from diptych_training.relevance import Relevance


class Groups(torch.nn.Module):
    """Sets that documents belong to, by document id, such as their tags."""

    rows: Tensor

    def __init__(self, sets: Mapping[int, Iterable[int]]) -> None:
        super().__init__()
        members = {document: sorted(set(groups)) for document, groups in sets.items()}
        size = (max(members, default=-1) + 2, max((groups[-1] for groups in members.values() if groups), default=0) + 1)
        rows = torch.zeros(size)  # the last row is of those without sets
        for document, groups in members.items():
            rows[document, groups] = 1.0
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Size of the intersection over that of the union `[A, B]`; 0 if both sets are empty."""
        a, b = (self.rows[self._places(ids)] for ids in (left, right))
        shared = a @ b.T
        return shared / (a.sum(1)[:, None] + b.sum(1)[None] - shared).clamp(min=1)

    def _places(self, ids: Tensor) -> Tensor:
        last = len(self.rows) - 1
        return torch.where((ids >= 0) & (ids < last), ids, torch.full_like(ids, last))


class HybridNCELoss(RetrievalLoss):
    """`-log(pos_i / (alpha pos_i + sum of w_ij e^s_ij over negatives))`, s = similarity / tau.

    `pos_i` adds up e^s of the relevant documents, and lambda * IoU e^s of those whose groups overlap with the own
    positive's by at least `iou_min`; these are no negatives whatever lambda. A negative weighs
    `e^(beta s_ij)` over the mean of that among the row's negatives.

    Args:
        model: that is trained.
        groups: of the documents; None has no further positives.
        tau: temperature.
        alpha: weight of the positives in the denominator.
        beta: how much more hard negatives weigh; 0 weighs all alike.
        further: lambda, the weight of further positives.
        iou_min: overlap from which a document is one; 1 wants equal sets.
        detach_weights: whether no gradient goes through the negatives' weights.
        symmetric: with the same loss of documents asking for queries, the true transpose.
        relevance, similarity: see `RetrievalLoss`.
    """

    takes_further: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        groups: Groups | None = None,
        tau: float = 0.05,
        alpha: float = 1.0,
        beta: float = 0.1,
        further: float = 0.2,
        iou_min: float = 1.0,
        detach_weights: bool = True,
        symmetric: bool = False,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        self.groups, self.tau, self.alpha, self.beta, self.further = groups, tau, alpha, beta, further
        self.iou_min, self.detach_weights, self.symmetric = iou_min, detach_weights, symmetric

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        similarity, candidates = self.masked(embeddings, labels)
        scores = similarity / self.tau
        weights, negative = candidates.positive.float(), candidates.negative
        if self.groups is not None:
            overlap = self.groups.to(scores.device)(candidates.documents[candidates.own_column], candidates.documents)
            further = negative & (overlap >= self.iou_min) & (overlap > 0)
            weights, negative = weights + self.further * overlap * further, negative & ~further
        loss = self._of(scores, weights, negative)
        if not self.symmetric:
            return loss
        has_positive = candidates.positive.any(0)
        return (loss + self._of(scores.T[has_positive], weights.T[has_positive], negative.T[has_positive])) / 2

    def _of(self, scores: Tensor, weights: Tensor, negative: Tensor) -> Tensor:
        positive = weights > 0
        high = logsumexp_where(scores + torch.where(positive, weights, torch.ones_like(weights)).log(), positive)
        low = logsumexp_where(scores + self._hardness(scores, negative), negative)
        denominators = torch.logaddexp(high + torch.tensor(self.alpha).log(), low)
        return mean_of_rows(denominators - high, positive.any(1) & negative.any(1))

    def _hardness(self, scores: Tensor, negative: Tensor) -> Tensor:
        """log of the weights; their mean over a row's negatives is 1."""
        tilted = self.beta * (scores.detach() if self.detach_weights else scores)
        mean = logsumexp_where(tilted, negative) - negative.sum(1).clamp(min=1).log()
        return tilted - mean[:, None]
