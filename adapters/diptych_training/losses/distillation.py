"""Losses that train an encoder on a teacher's scores of a row's documents.

Requirements: (query, positive, negative_1, ...) columns; labels: the teacher's scores, float `[B, 1 + H]`, of the
positive and each negative (see `diptych_training.teacher_scores`).

| loss | what is handed on | source |
|---|---|---|
| `KLDistillation` | the distribution over the row | Hinton et al. 2015 |
| `diptych_training.losses.CPRDLoss` | the order of the negatives alone | CPRD |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.relevance import Relevance
from diptych_training.teacher_scores import own_scores, teacher_scores

InBatchTeacher: TypeAlias = Callable[[Sequence[Features]], Tensor]


class RowDistillation(RetrievalLoss):
    """A loss that compares the student's scores of a row with the teacher's.

    Args:
        model: that is trained.
        tau: temperature of the student.
        relevance, similarity: see `RetrievalLoss`; what is within a row alone asks for no relevance.
    """

    def __init__(
        self, model: Any, *, tau: float = 0.05, relevance: Relevance | None = None, similarity: str = "cosine"
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        self.tau = tau

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
        model, tau, similarity: see `RowDistillation`.
        temperature: T of both sides.
    """

    def __init__(self, model: Any, *, tau: float = 0.05, temperature: float = 1.0, similarity: str = "cosine") -> None:
        super().__init__(model, tau=tau, similarity=similarity)
        self.temperature = temperature

    def of_rows(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of scores `[B, 1 + H]`."""
        target, logs = ((scores / self.temperature).log_softmax(1) for scores in (teacher, student))
        divergence = torch.nn.functional.kl_div(logs, target, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence


class DualMarginMSELoss(RetrievalLoss):
    """The squared difference of the student's and the teacher's margins, of pairs and in the batch.

    A pairwise teacher for a row's own negative, an in-batch teacher for all others. TAS-Balanced: Hofstätter et al.,
    "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling", SIGIR 2021.

    Requirements: (query, positive, negative) columns; labels: the pairwise teacher's scores, float `[B, 2]`.

    Args:
        model: that is trained; its dot products are compared as they are, without temperature.
        in_batch: gives the in-batch teacher's scores `[B, 2 B]` from the tokenised columns; None leaves the term out.
        in_batch_weight: of that term.
        similarity: `dot`, since margins carry the teacher's scale.
    """

    def __init__(
        self,
        model: Any,
        *,
        in_batch: InBatchTeacher | None = None,
        in_batch_weight: float = 0.75,
        similarity: str = "dot",
    ) -> None:
        super().__init__(model, similarity=similarity)
        self.in_batch, self.in_batch_weight = in_batch, in_batch_weight

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; the in-batch teacher sees the same columns, without gradient."""
        features = [dict(column) for column in sentence_features]
        embeddings = [self.embedded(column, place) for place, column in enumerate(features)]
        if self.in_batch is None:
            return self.of(embeddings, labels, None)
        with torch.no_grad():
            teacher = self.in_batch(features)
        return self.of(embeddings, labels, teacher)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch by the pairwise teacher alone.

        Raises:
            ContractError: there is an in-batch teacher, who reads tokens and not embeddings.
        """
        if self.in_batch is not None:
            raise ContractError(
                "the in-batch teacher cannot read embeddings",
                where="DualMarginMSELoss",
                got="embeddings, as within CachedLoss and SpladeLoss",
                expected="tokenised columns, as forward gets them",
                do="leave in_batch out there, or give its scores to DualMarginMSELoss.of",
            )
        return self.of(embeddings, labels, None)

    def of(self, embeddings: Sequence[Tensor], labels: Tensor | None, teacher: Tensor | None) -> Tensor:
        """The loss of a batch.

        Args:
            teacher: the in-batch teacher's scores `[B, 2 B]`: of all positives, then of all negatives.
        """
        if len(embeddings) != 3:
            raise ContractError(
                "margins need three columns",
                where="DualMarginMSELoss",
                got=len(embeddings),
                expected="query, positive, negative",
            )
        queries, documents = self.prepared(embeddings)
        pairwise = teacher_scores(labels, len(queries), 2, where="DualMarginMSELoss").to(queries.device)
        row_scores = own_scores(queries, documents, 2)
        loss = (row_scores[:, 0] - row_scores[:, 1] - (pairwise[:, 0] - pairwise[:, 1])).square().mean()
        if teacher is None:
            return loss
        student = self.similarities(queries, documents)
        return loss + self.in_batch_weight * in_batch_margins(student, teacher.to(queries))


def in_batch_margins(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the sum, over positives and negatives of other rows, of the mean squared difference of margins.

    Args:
        student, teacher: scores `[B, 2 B]`: of all positives, then of all negatives.
    """
    rows = len(student)
    others = ~torch.eye(rows, dtype=torch.bool, device=student.device)
    parts = []
    for column in (slice(0, rows), slice(rows, 2 * rows)):
        target, margins = (scores.diagonal()[:, None] - scores[:, column] for scores in (teacher, student))
        parts.append((margins - target)[others].square().mean() if rows > 1 else student.sum() * 0)
    return (parts[0] + parts[1]) / 2


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
