"""Losses that train an encoder on a teacher's scores of a row's documents.

Requirements: (query, positive, negative_1, ...) columns; labels: the teacher's scores, float `[B, 1 + H]`, of the
positive and each negative.

| loss | what is handed on | source |
|---|---|---|
| `KLDistillation` | the distribution over the row | Hinton et al. 2015 |
| `diptych_training.losses.CPRDLoss` | the order of the negatives alone | CPRD |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from sentence_transformers.util import maxsim_pairwise
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.base import Features, RetrievalLoss
from diptych_training.losses.contrastive import contrastive

Taught: TypeAlias = Literal["order", "distribution", "scores"]
NOTHING = -1e6  # a score whose exp is 0, with a gradient that is 0 too


class RowDistillation(RetrievalLoss):
    """A loss that compares the student's scores of a row with the teacher's; tau is the temperature of the student."""

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        queries, documents = self.prepared(embeddings)
        columns = len(embeddings) - 1
        teacher = teacher_scores(labels, len(queries), columns, where=type(self).__name__)
        return self.of_rows(own_scores(queries, documents, columns) / self.tau, teacher.to(queries.device))

    @abstractmethod
    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`, the positive first; a scalar."""


class KLDistillation(RowDistillation):
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` over a row, the student's scores divided by tau.

    Args:
        model: that is trained.
        temperature: T of both sides.
        common: see `RetrievalLoss`.
    """

    def __init__(self, model: Any, *, temperature: float = 1.0, **common: Any) -> None:
        super().__init__(model, **common)
        self.temperature = temperature

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`."""
        target, logs = ((scores / self.temperature).log_softmax(1) for scores in (teacher, student))
        divergence = torch.nn.functional.kl_div(logs, target, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence


class StudentLoss(torch.nn.Module):
    """`mean(1 - cos(s, t)) + mean(|s - t|^2) + w T`, T the divergence of what s finds in a batch from what t finds.

    s are the student's vectors of the batch, t the teacher's; `T = KL(softmax(t t' / tau) || softmax(s t' / tau))` over
    the batch's rows, each row's own t left out, which would hide all others.

    Args:
        model: SentenceTransformer that is trained.
        vectors: the teacher's, float32 `[N, D]`.
        weight: w.
        tau: temperature of both distributions; scores are cosines.
    """

    def __init__(self, model: Any, vectors: Tensor, *, weight: float = 0.5, tau: float = 0.05) -> None:
        super().__init__()
        self.model, self.weight, self.tau = model, weight, tau
        self.vectors: Tensor
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch: one column of texts, and in `labels` `[B]` the rows of their vectors."""
        (features,) = sentence_features
        return self.of_vectors(self.model(dict(features))["sentence_embedding"], self.vectors[labels])

    def of_vectors(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of the student's and the teacher's vectors, both `[B, D]`; a scalar."""
        student, teacher = student.float(), teacher.float()
        ours, theirs = (torch.nn.functional.normalize(vectors, dim=1) for vectors in (student, teacher))
        loss = (1 - (ours * theirs).sum(1)).mean() + (student - teacher).square().sum(1).mean()
        if self.weight == 0 or len(ours) < 3:
            return loss
        return loss + self.weight * divergence(ours, theirs, theirs, tau=self.tau)


def divergence(queries: Tensor, documents: Tensor, teacher: Tensor, *, tau: float) -> Tensor:
    """The divergence of what queries find among the documents from what the teacher finds, all unit vectors."""
    own = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    target, logs = (
        (scores / tau).masked_fill(own, float("-inf")).log_softmax(1).masked_fill(own, 0.0)
        for scores in (teacher @ teacher.T, queries @ documents.T)
    )
    return (target.exp().masked_fill(own, 0.0) * (target - logs)).sum(1).mean()


class CPRDLoss(RowDistillation):
    """The contrastive loss of the batch plus the likelihood of the teacher's order of a row's valid negatives.

    Negatives are sorted by the teacher; those that it holds for plain mismatches are invalid, their order is noise, and
    those that are judged relevant have no place in it. The likelihood is Plackett-Luce's (ListMLE), cut after the last
    valid one.

    Requirements: (query, positive, negative_1, ...) columns; labels: float `[B, (2 + H) + (1 + H)]`, ids and after them
    the teacher's scores. With scores alone, `[B, 1 + H]`,
    nobody knows what of other rows is relevant, and the contrast is within the row.

    Args:
        model: that is trained.
        tau: temperature of both parts.
        min_prob: a negative is valid while the sigmoid of the teacher's score is at least this.
        top: instead of `min_prob`, the share of the negatives that is valid, the best; free of the teacher's scale.
        weight: of the teacher's part beside the contrast.
        kind: what the teacher's part is: the `order` of valid negatives; the `distribution` over all negatives, by the
            Kullback-Leibler divergence; or the `scores`, by the mean squared difference from the student's
            similarities / tau, where both have mean 0 in a row. `min_prob` and `top` are for the order alone.
        common: see `RetrievalLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.07,
        min_prob: float = 0.1,
        top: float | None = None,
        weight: float = 1.0,
        kind: Taught = "order",
        **common: Any,
    ) -> None:
        super().__init__(model, tau=tau, **common)
        self.min_prob, self.top, self.weight, self.kind = min_prob, top, weight, kind

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        columns = len(embeddings) - 1
        if labels is None or labels.ndim != 2 or labels.shape[1] == columns:
            return super().compute_loss_from_embeddings(embeddings, labels)
        queries, documents = self.prepared(embeddings)
        ids, teacher = split_labels(labels, len(queries), columns, where="CPRDLoss")
        candidates = self.candidates(embeddings, ids)
        similarity = self.similarities(queries, documents)
        contrast = contrastive(similarity / self.tau, candidates.positive, candidates.negative)
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
        number = counted.sum(1, keepdim=True)
        ranks = torch.arange(student.shape[1], device=student.device)
        valid = ranks < (number if self.top is None else self.top * number)
        if self.top is None:
            valid &= sorted_.sigmoid() >= self.min_prob
        terms = torch.where(valid, tail - scores, torch.zeros_like(scores)).sum(1)
        return (terms / valid.sum(1).clamp(min=1)).mean()


def teacher_scores(labels: Tensor | None, rows: int, columns: int, *, where: str) -> Tensor:
    """The label column as a teacher's scores, float32 `[rows, columns]`.

    Raises:
        ContractError: it has another type or shape.
    """
    fits = labels is not None and labels.is_floating_point() and tuple(labels.shape) == (rows, columns)
    if labels is None or not fits:
        got = "no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ContractError(
            "labels are not a teacher's scores",
            where=where,
            got=got,
            expected=f"float [{rows}, {columns}]: of the positive and each negative",
        )
    return labels.detach().float()


def own_scores(queries: Tensor, documents: Tensor, columns: int) -> Tensor:
    """Similarities `[B, columns]` of each query with the documents of its own row.

    Args:
        queries: `[B, D]`, or of tokens `[B, T, D]`.
        documents: `[B * columns, D]`, or of tokens, column after column.
    """
    if queries.ndim == 2:
        return torch.einsum("bd,cbd->bc", queries, documents.reshape(columns, len(queries), -1))
    parts, query_mask = documents.reshape(columns, *queries.shape[:1], *documents.shape[1:]), queries.any(-1)
    scores = [
        maxsim_pairwise(queries, part, a_mask=query_mask, b_mask=part.any(-1), length_normalize=True) for part in parts
    ]
    return torch.stack(scores, 1)


def split_labels(labels: Tensor | None, rows: int, columns: int, *, where: str) -> tuple[Tensor, Tensor]:
    """The ids `[rows, 1 + columns]` and the scores `[rows, columns]` of a label column.

    Raises:
        ContractError: labels of another form.
    """
    shape = (rows, 2 * columns + 1)
    if labels is None or tuple(labels.shape) != shape:
        raise ContractError(
            "labels are not ids and scores",
            where=where,
            got="no labels" if labels is None else list(labels.shape),
            expected=f"float {list(shape)}: ids of the row, then the teacher's scores",
        )
    return labels[:, : columns + 1].round().long(), labels[:, columns + 1 :].detach().float()
