"""One contrastive loss over masked scores; its switches give the published members of the family.

| what | paper | switches |
|---|---|---|
| InfoNCE | van den Oord et al. 2018; in-batch negatives: Henderson et al. 2017 | defaults |
| ALIGN | Jia et al. 2021 | `symmetric`, `learn_tau`, `label_smoothing=0.1` |
| decoupled softmax | DEXML: Gupta et al. 2024 | `reduction="decoupled"` (the default), `sample_positives=1` |
| supervised contrastive | Khosla et al. 2020; in UniDEC: Kharbanda et al. 2024 | `reduction="supcon"` |
| balanced | UniDEC | `reduction="balanced"` |
| masked multi-block | Query-as-Anchor | `blocks=("qd", "qq", "dq")`, `margin=0.1` |

For row i with positives P_i and negatives N_i, scores s = similarity / tau, the term of a positive p is
`log(A_ip + sum over N_i of w_ij exp(s_ij)) - s_ip`, where A_ip is exp(s_ip) (decoupled), the sum over P_i (supcon) or
their mean (balanced); a row is the mean of its terms, the loss the mean of the rows that have both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.base import RetrievalLoss, logsumexp_where, mean_of_rows
from diptych_training.relevance import Candidates, Relevance

Reduction: TypeAlias = Literal["decoupled", "supcon", "balanced"]
Block: TypeAlias = Literal["qd", "qq", "dd", "dq"]
SHARPEST = 100.0  # 1 / tau of a learned temperature at most


def contrastive(
    scores: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    reduction: Reduction = "decoupled",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss of scores `[B, M]`, already divided by tau; a scalar.

    Args:
        scores: float; what is neither positive nor negative does not count.
        positive, negative: bool `[B, M]`.
        reduction: what of the positives stands in the denominator of one of them.
        label_smoothing: the share of the target that goes to the negatives, evenly.
    """
    positive_counts, negative_counts = positive.sum(1), negative.sum(1)
    low = logsumexp_where(scores, negative)
    high = logsumexp_where(scores, positive)[:, None]
    if reduction == "decoupled":
        high = scores
    elif reduction == "balanced":
        high = high - positive_counts.clamp(min=1).log()[:, None]
    denominators = torch.logaddexp(high, low[:, None]).expand_as(scores)
    zeros = torch.zeros_like(scores)
    rows = torch.where(positive, denominators - scores, zeros).sum(1) / positive_counts.clamp(min=1)
    if label_smoothing:
        smoothed = torch.where(positive, denominators, zeros).sum(1) / positive_counts.clamp(min=1)
        smoothed = smoothed - torch.where(negative, scores, zeros).sum(1) / negative_counts.clamp(min=1)
        rows = (1 - label_smoothing) * rows + label_smoothing * smoothed
    return mean_of_rows(rows, (positive_counts > 0) & (negative_counts > 0))


def symmetric_contrastive(
    scores: Tensor, positive: Tensor, negative: Tensor, *, reduction: Reduction = "decoupled"
) -> Tensor:
    """The mean of the loss and of its transpose, in which documents with a positive look for their queries."""
    has_positive = positive.any(0)
    reverse = contrastive(
        scores.T[has_positive], positive.T[has_positive], negative.T[has_positive], reduction=reduction
    )
    return (contrastive(scores, positive, negative, reduction=reduction) + reverse) / 2


class ContrastiveLoss(RetrievalLoss):
    """The family's loss for a sentence-transformers model; the module's table says which switches give which member.

    Requirements: (query, positive) or (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model: that is trained.
        tau: temperature, by which similarities are divided.
        learn_tau: train it, from `tau` on; it stays above 0.01.
        reduction, label_smoothing: see `contrastive`.
        sample_positives: how many positives of a row are drawn for a step, the others left out; None takes all.
        symmetric: the mean of this loss and that of the documents with a positive asking for their queries.
        blocks: which similarities stand beside the positive: query-document, query-query, document-document,
            document-query, each of the own pair with other rows. With a margin a row whose query or document is too
            near is left out of all of them.
        margin: negatives more similar than the own positive by this are left out; None takes that of `relevance`.
        relevance, similarity: see `RetrievalLoss`.
    """

    takes_further: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        learn_tau: bool = False,
        reduction: Reduction = "decoupled",
        label_smoothing: float = 0.0,
        sample_positives: int | None = None,
        symmetric: bool = False,
        blocks: Sequence[Block] = ("qd",),
        margin: float | None = None,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        _check(tau=tau, reduction=reduction, label_smoothing=label_smoothing, blocks=blocks)
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(tau)), requires_grad=learn_tau)
        self.reduction, self.label_smoothing = reduction, label_smoothing
        self.sample_positives = sample_positives
        self.symmetric, self.blocks = symmetric, tuple(blocks)
        self._margin = margin

    @property
    def margin(self) -> float | None:
        """Its own margin, or that of `relevance`."""
        return self.relevance.margin if self._margin is None else self._margin

    @property
    def scale(self) -> Tensor:
        """1 / tau."""
        return self.log_scale.exp() if not self.log_scale.requires_grad else self.log_scale.exp().clamp(max=SHARPEST)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        queries, documents = self.prepared(embeddings)
        documents, candidates = self.with_earlier(documents, self.candidates(embeddings, labels))
        similarity = self.similarities(queries, documents)
        filtered, left_out = self._masked(queries, documents, similarity, candidates)
        filtered = filtered if self.sample_positives is None else filtered.sampled(self.sample_positives)
        loss = self._of(*self._widened(queries, documents, similarity, filtered, left_out))
        if not self.symmetric:
            return loss
        has_positive = filtered.positive.any(0)
        transposed = (part.T[has_positive] for part in (similarity, filtered.positive, filtered.negative))
        return (loss + self._of(*transposed)) / 2

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {
            "tau": 1 / float(self.scale),
            "learn_tau": self.log_scale.requires_grad,
            "reduction": self.reduction,
            "label_smoothing": self.label_smoothing,
            "sample_positives": self.sample_positives,
            "symmetric": self.symmetric,
            "blocks": list(self.blocks),
            "margin": self.margin,
            "further": repr(self.more_negatives) if self.more_negatives else None,
            "similarity": self.similarity,
        }

    def _of(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return contrastive(
            similarity * self.scale,
            positive,
            negative,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def _widened(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, candidates: Candidates, left_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, positives and negatives with the columns of mixed negatives and of further blocks.

        Args:
            left_out: rows that are no negatives of each other, `[B, B]`.
        """
        own_documents = documents[candidates.own_column]
        pairs = {"qq": (queries, queries), "dd": (own_documents, own_documents), "dq": (own_documents, queries)}
        scores, wider = self.with_mixed(queries, documents, similarity, candidates)
        if "qd" not in self.blocks:
            wider = wider.without(torch.arange(scores.shape[1], device=scores.device)[None] < similarity.shape[1])
        for block in self.blocks:
            if block != "qd":
                left, right = pairs[block]
                scores, wider = torch.cat([scores, self.similarities(left, right)], 1), wider.with_negatives(~left_out)
        return scores, wider.positive, wider.negative

    def _masked(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, candidates: Candidates
    ) -> tuple[Candidates, Tensor]:
        """The candidates without what is too near, and which rows are no negatives of each other `[B, B]`.

        Beside further blocks a row that is too near by its query or document is left out of all blocks.
        """
        sisters = candidates.sisters | candidates.sisters.T
        if self.margin is None:
            return candidates, sisters
        filtered, bar = candidates.margin_filtered(similarity, self.margin), candidates.bar(similarity, self.margin)
        if self.blocks == ("qd",):
            return filtered, sisters
        near = [
            self.similarities(queries, vectors).detach() > bar
            for vectors in (queries, documents[candidates.own_column])
        ]
        columns = torch.nn.functional.one_hot(candidates.own_column, similarity.shape[1])
        rows = near[0] | near[1]
        return filtered.without(rows.float() @ columns.float() > 0), sisters | rows


def _check(**options: Any) -> None:
    allowed: dict[str, tuple[str, bool]] = {
        "tau": ("above 0", options["tau"] > 0),
        "reduction": (", ".join(get_args(Reduction)), options["reduction"] in get_args(Reduction)),
        "label_smoothing": ("from 0 to below 1", 0 <= options["label_smoothing"] < 1),
        "blocks": (
            f"some of {', '.join(get_args(Block))}",
            bool(options["blocks"]) and set(options["blocks"]) <= {*get_args(Block)},
        ),
    }
    for name, (expected, fits) in allowed.items():
        if not fits:
            raise ContractError(f"unusable {name}", where="ContrastiveLoss", got=repr(options[name]), expected=expected)


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
