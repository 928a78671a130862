"""The losses of a model with two heads: judged relevance to one, a teacher's scores to the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych_experimental.dual_head_models import HEADS
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.losses.contrastive import ContrastiveLoss
from diptych_training.losses.distillation import KLDistillation, RowDistillation
from diptych_training.teacher_scores import split_labels


class DualHeadLoss(torch.nn.Module):
    """A loss of relevance on head A over labelled rows, plus one of distillation on head B over all rows.

    Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head Optimization",
    2025. Neither head gets the other loss's gradient; the encoder below gets both.

    Requirements: (query, positive, negative_1, ...) columns; labels: float `[B, (2 + H) + (1 + H)]`, the ids of query,
    positive and negatives and after them the teacher's scores of positive and negatives (see `labels_of`). A row whose
    query's id is below 0 is unlabelled: it has no part in the loss of relevance.

    Args:
        model: of `dual_head`.
        supervised: of head A; InfoNCE by dot product unless given.
        distill: of head B; the Kullback-Leibler divergence by dot product with temperature 2 unless given.
        distill_weight: of the distillation, whose means over labelled and over unlabelled rows are added.
    """

    def __init__(
        self,
        model: Any,
        *,
        supervised: RetrievalLoss | None = None,
        distill: RowDistillation | None = None,
        distill_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.distill_weight = model, distill_weight
        self.supervised = supervised or ContrastiveLoss(model, similarity="dot")
        self.distill = distill or KLDistillation(model, similarity="dot", temperature=2.0)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The two losses of a batch, `supervised` and `distill`; their sum is what is trained."""
        columns = [self.model({**features}) for features in sentence_features]
        heads = [[column[name] for column in columns] for name in HEADS]
        return self.compute_losses_from_embeddings(heads[0], heads[1], labels)

    def compute_losses_from_embeddings(
        self, head_a: Sequence[Tensor], head_b: Sequence[Tensor], labels: Tensor | None
    ) -> dict[str, Tensor]:
        """The same from the columns' embeddings `[B, D]` by each head."""
        ids, scores = split_labels(labels, len(head_a[0]), len(head_a) - 1)
        distilled = self._distilled(head_b, scores, ids[:, 0] >= 0)
        return {"supervised": self._of_labelled(head_a, ids), "distill": self.distill_weight * distilled}

    def _distilled(self, embeddings: Sequence[Tensor], scores: Tensor, labelled: Tensor) -> Tensor:
        """The sum of two means, over labelled and over unlabelled rows, as the authors train it."""
        halves = [half for half in (labelled, ~labelled) if bool(half.any())]
        means = [
            self.distill.compute_loss_from_embeddings([column[half] for column in embeddings], scores[half])
            for half in halves
        ]
        return torch.stack(means).sum()

    def _of_labelled(self, embeddings: Sequence[Tensor], ids: Tensor) -> Tensor:
        labelled = ids[:, 0] >= 0
        if not bool(labelled.any()):
            return embeddings[0].sum() * 0
        columns = [column[labelled] for column in embeddings]
        return self.supervised.compute_loss_from_embeddings(columns, ids[labelled])

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        supervised: dict[str, Any] = getattr(self.supervised, "get_config_dict", dict)()
        return {
            "supervised": type(self.supervised).__name__,
            **supervised,
            "distill": type(self.distill).__name__,
            "distill_tau": self.distill.tau,
            "distill_weight": self.distill_weight,
        }
