"""One contrastive loss over masked scores; its switches give the published members of the family.

| what | paper | switches |
|---|---|---|
| InfoNCE | van den Oord et al. 2018; in-batch negatives: Henderson et al. 2017 | defaults |
| ALIGN | Jia et al. 2021 | `symmetric`, `label_smoothing=0.1` |
| decoupled softmax | DEXML: Gupta et al. 2024 | defaults, of several positives |
| multi-block | Query-as-Anchor | `blocks=("qd", "qq", "dq")` |

For row i with positives P_i and negatives N_i, scores s = similarity / tau, the term of a positive p is
`log(exp(s_ip) + sum over N_i of exp(s_ij)) - s_ip`; a row is the mean of its terms, the loss the mean of the rows that
have both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.base import RetrievalLoss, logsumexp_where, mean_of_rows
from diptych_training.relevance import Candidates, Relevance

Block: TypeAlias = Literal["qd", "qq", "dd", "dq"]


def contrastive(scores: Tensor, positive: Tensor, negative: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The loss of scores `[B, M]`, already divided by tau; a scalar.

    Args:
        scores: float; what is neither positive nor negative does not count.
        positive, negative: bool `[B, M]`.
        label_smoothing: the share of the target that goes to the negatives, evenly.
    """
    positive_counts, negative_counts = positive.sum(1), negative.sum(1)
    denominators = torch.logaddexp(scores, logsumexp_where(scores, negative)[:, None])
    zeros = torch.zeros_like(scores)
    rows = torch.where(positive, denominators - scores, zeros).sum(1) / positive_counts.clamp(min=1)
    if label_smoothing:
        smoothed = torch.where(positive, denominators, zeros).sum(1) / positive_counts.clamp(min=1)
        smoothed = smoothed - torch.where(negative, scores, zeros).sum(1) / negative_counts.clamp(min=1)
        rows = (1 - label_smoothing) * rows + label_smoothing * smoothed
    return mean_of_rows(rows, (positive_counts > 0) & (negative_counts > 0))


def symmetric_contrastive(scores: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """The mean of the loss and of its transpose, in which documents with a positive look for their queries."""
    has_positive = positive.any(0)
    reverse = contrastive(scores.T[has_positive], positive.T[has_positive], negative.T[has_positive])
    return (contrastive(scores, positive, negative) + reverse) / 2


class ContrastiveLoss(RetrievalLoss):
    """The family's loss for a sentence-transformers model; the module's table says which switches give which member.

    Requirements: (query, positive) or (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model, tau: see `RetrievalLoss`.
        label_smoothing: see `contrastive`.
        symmetric: the mean of this loss and that of the documents with a positive asking for their queries.
        blocks: which similarities stand beside the positive: query-document, query-query, document-document,
            document-query, each of the own pair with other rows.
        relevance, similarity: see `RetrievalLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        label_smoothing: float = 0.0,
        symmetric: bool = False,
        blocks: Sequence[Block] = ("qd",),
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, tau=tau, relevance=relevance, similarity=similarity)
        for name, value, expected, fits in (
            ("tau", tau, "above 0", tau > 0),
            ("label_smoothing", label_smoothing, "from 0 to below 1", 0 <= label_smoothing < 1),
            ("blocks", blocks, f"some of {', '.join(get_args(Block))}", {*blocks} and {*blocks} <= {*get_args(Block)}),
        ):
            if not fits:
                raise ContractError(f"unusable {name}", where="ContrastiveLoss", got=repr(value), expected=expected)
        self.label_smoothing, self.symmetric, self.blocks = label_smoothing, symmetric, tuple(blocks)
        self.scale = float(torch.tensor(-math.log(tau)).exp())  # 1 / tau, rounded as every release has rounded it

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        queries, documents = self.prepared(embeddings)
        similarity, candidates = self.similarities(queries, documents), self.candidates(embeddings, labels)
        loss = self._of(*self._widened(queries, documents, similarity, candidates))
        if not self.symmetric:
            return loss
        has_positive = candidates.positive.any(0)
        transposed = (part.T[has_positive] for part in (similarity, candidates.positive, candidates.negative))
        return (loss + self._of(*transposed)) / 2

    def _of(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return contrastive(similarity * self.scale, positive, negative, label_smoothing=self.label_smoothing)

    def _widened(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, candidates: Candidates
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, positives and negatives with the columns of further blocks."""
        own_documents, scores = documents[candidates.own_column], similarity
        pairs = {"qq": (queries, queries), "dd": (own_documents, own_documents), "dq": (own_documents, queries)}
        sisters = candidates.sisters | candidates.sisters.T  # rows that are no negatives of each other
        if "qd" not in self.blocks:
            candidates = candidates.without(torch.ones_like(candidates.negative))
        for block in self.blocks:
            if block != "qd":
                scores = torch.cat([scores, self.similarities(*pairs[block])], 1)
                candidates = candidates.with_negatives(~sisters)
        return scores, candidates.positive, candidates.negative


class HybridNCELoss(RetrievalLoss):
    """`-log(pos_i / (pos_i + sum of w_ij e^s_ij over negatives))`, s = similarity / tau; AuroLA's Hybrid-NCE.

    `pos_i` adds up e^s of the relevant documents. A negative weighs `e^(beta s_ij)` over the mean of that among the
    row's negatives, without gradient.

    Args:
        model: that is trained.
        beta: how much more hard negatives weigh; 0 weighs all alike.
        common: see `RetrievalLoss`.
    """

    def __init__(self, model: Any, *, beta: float = 0.1, **common: Any) -> None:
        super().__init__(model, **common)
        self.beta = beta

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        candidates = self.candidates(embeddings, labels)
        scores = self.similarities(*self.prepared(embeddings)) / self.tau
        positive, negative = candidates.positive, candidates.negative
        tilted = self.beta * scores.detach()  # log of the weights, whose mean over a row's negatives is 1
        weights = tilted - (logsumexp_where(tilted, negative) - negative.sum(1).clamp(min=1).log())[:, None]
        high, low = logsumexp_where(scores, positive), logsumexp_where(scores + weights, negative)
        return mean_of_rows(torch.logaddexp(high, low) - high, positive.any(1) & negative.any(1))
