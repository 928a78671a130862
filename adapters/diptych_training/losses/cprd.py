"""CPRD: a teacher's order of a row's hard negatives beside a contrastive loss.

Contrastive Partial Ranking Distillation. The teacher's scores themselves are not handed on, nor the order of what it
holds for plain mismatches. Its distribution over the negatives or its scores may take the place of the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.contrastive import contrastive
from diptych_training.losses.distillation import RowDistillation
from diptych_training.relevance import Relevance
from diptych_training.teacher_scores import own_scores, split_labels

Taught: TypeAlias = Literal["order", "distribution", "scores"]

NOTHING = -1e6  # a score whose exp is 0, with a gradient that is 0 too


class CPRDLoss(RowDistillation):
    """The contrastive loss of the batch plus the likelihood of the teacher's order of a row's valid negatives.

    Negatives are sorted by the teacher; those that it holds for plain mismatches are invalid, their order is noise, and
    those that are judged relevant have no place in it. The likelihood is Plackett-Luce's (ListMLE), cut after the last
    valid one.

    Requirements: (query, positive, negative_1, ...) columns; labels: float `[B, (2 + H) + (1 + H)]`, ids and after them
    the teacher's scores, as `diptych_training.teacher_scores.labels_of` makes them. With scores alone, `[B, 1 + H]`,
    nobody knows what of other rows is relevant, and the contrast is within the row.

    Args:
        model, tau, similarity: see `RowDistillation`; tau is that of both parts.
        min_prob: a negative is valid while the sigmoid of the teacher's score is at least this.
        top: instead of `min_prob`, the share of the negatives that is valid, the best; free of the teacher's scale.
        weight: of the teacher's part beside the contrast.
        kind: what the teacher's part is: the `order` of valid negatives; the `distribution` over all negatives, by the
            Kullback-Leibler divergence; or the `scores`, by the mean squared difference from the student's
            similarities / tau, where both have mean 0 in a row. `min_prob` and `top` are for the order alone.
        relevance: see `RetrievalLoss`.
    """

    takes_ids: ClassVar[bool] = True
    takes_further: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.07,
        min_prob: float = 0.1,
        top: float | None = None,
        weight: float = 1.0,
        kind: Taught = "order",
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, tau=tau, relevance=relevance, similarity=similarity)
        if kind not in get_args(Taught):
            expected = ", ".join(get_args(Taught))
            raise ContractError("unknown kind", where="CPRDLoss", got=kind, expected=expected)
        self.min_prob, self.top, self.weight, self.kind = min_prob, top, weight, kind

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        columns = len(embeddings) - 1
        if labels is None or labels.ndim != 2 or labels.shape[1] == columns:
            return super().compute_loss_from_embeddings(embeddings, labels)
        queries, documents = self.prepared(embeddings)
        ids, teacher = split_labels(labels, len(queries), columns, where="CPRDLoss")
        candidates = self.candidates(embeddings, ids)
        similarity, filtered = self.scored(queries, documents, candidates)
        contrast = contrastive(similarity / self.tau, filtered.positive, filtered.negative)
        row_scores = own_scores(queries, documents, columns)[:, 1:] / self.tau
        counted = ~candidates.of_rows(columns)[:, 1:]
        return contrast + self.weight * self.taught(row_scores, teacher[:, 1:].to(row_scores), counted)

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`, with contrast within the row."""
        infonce = -student.log_softmax(1)[:, 0].mean()
        every = torch.ones_like(student[:, 1:], dtype=torch.bool)
        return infonce + self.weight * self.taught(student[:, 1:], teacher[:, 1:], every)

    def taught(self, student: Tensor, teacher: Tensor, counted: Tensor) -> Tensor:
        """The teacher's part, of scores of negatives `[B, H]` and whether each counts."""
        if self.kind == "order":
            return self.order(student, teacher, counted)
        if self.kind == "distribution":
            logs, target = (own.masked_fill(~counted, NOTHING).log_softmax(1) for own in (student, teacher))
            return torch.nn.functional.kl_div(logs, target, reduction="batchmean", log_target=True)
        number = counted.sum(1, keepdim=True).clamp(min=1)
        gap = torch.where(counted, student - teacher, torch.zeros_like(student))
        # The difference of what has mean 0 is the difference less its mean.
        return (torch.where(counted, gap - gap.sum(1, keepdim=True) / number, gap).square() / number).sum(1).mean()

    def order(self, student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
        """The likelihood of the order of negatives `[B, H]`, restricted to the `counted` ones if given."""
        counted = torch.ones_like(student, dtype=torch.bool) if counted is None else counted
        sorted_, places = teacher.masked_fill(~counted, -torch.inf).sort(dim=1, descending=True, stable=True)
        scores = student.masked_fill(~counted, NOTHING).gather(1, places)
        # log of the sum of exp over each place and all after it
        tail = scores.flip(1).logcumsumexp(1).flip(1)
        valid = self._valid(sorted_, counted.sum(1, keepdim=True))
        terms = torch.where(valid, tail - scores, torch.zeros_like(scores)).sum(1)
        return (terms / valid.sum(1).clamp(min=1)).mean()

    def _valid(self, teacher: Tensor, counted: Tensor) -> Tensor:
        places = torch.arange(teacher.shape[1], device=teacher.device)
        if self.top is None:
            return (teacher.sigmoid() >= self.min_prob) & (places < counted)
        return places < self.top * counted
