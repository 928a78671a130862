"""Dual-teacher Margin-MSE: a pairwise teacher for a row's own negative, an in-batch teacher for all others.

TAS-Balanced: Hofstätter et al., "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling",
SIGIR 2021.

Requirements: (query, positive, negative) columns; labels: the pairwise teacher's scores, float `[B, 2]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.teacher_scores import own_scores, teacher_scores

InBatchTeacher: TypeAlias = Callable[[Sequence[Features]], Tensor]


class DualMarginMSELoss(RetrievalLoss):
    """The squared difference of the student's and the teacher's margins, of pairs and in the batch.

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
