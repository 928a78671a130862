"""`StudentLoss`: a model learns the vectors that another encoder makes of the same texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from diptych_training.losses.common.base import Features


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
