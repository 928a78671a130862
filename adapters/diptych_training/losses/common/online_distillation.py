"""A loss whose teacher scores documents during the training of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss

Teacher: TypeAlias = Callable[[Tensor], Tensor]  # ids [B, 1 + C] of queries and documents -> scores [B, C]


class TaughtLoss(RetrievalLoss):
    """Any loss that distils a teacher, with ids in the label column, for which the teacher is asked during training.

    A loss sees tokens and labels, not texts, so the labels say which texts a row has. Negatives may change during the
    training, as in AR2; if they do not, storing the scores once is simpler.

    Requirements: (query, positive, negative_1, ...) columns; labels: ids `[B, 2 + H]`.

    Args:
        loss: `KLDistillation`, `CPRDLoss`, `AR2RetrieverLoss`, `DualMarginMSELoss`: it gets float labels `[B, 1 + H]`,
            behind the ids where it takes them.
        teacher: scores by ids, such as a `diptych_training.teacher_scores.LiveTeacher`.
    """

    def __init__(self, loss: RetrievalLoss, teacher: Teacher) -> None:
        super().__init__(loss.model, similarity=loss.similarity)
        self.loss, self.teacher = loss, teacher

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Raises:
            ContractError: the labels are not ids, or ids that the teacher does not know.
        """
        columns = list(sentence_features)
        loss: Tensor = self.loss(columns, self._scores(labels, len(columns)))
        return loss

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch from the embeddings of its columns."""
        return self.loss.compute_loss_from_embeddings(embeddings, self._scores(labels, len(embeddings)))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {"loss": type(self.loss).__name__, **inner, "teacher": type(self.teacher).__name__}

    def _scores(self, labels: Tensor | None, columns: int) -> Tensor:
        fits = labels is not None and labels.ndim == 2 and not labels.is_floating_point() and labels.shape[1] == columns
        if labels is None or not fits:
            raise ContractError(
                "a teacher is asked by ids, and the labels are none",
                where="TaughtLoss",
                got="no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}",
                expected=f"integers [B, {columns}]: query, positive and each negative",
            )
        scores = self.teacher(labels).to(labels.device)
        return torch.cat([labels.to(scores), scores], 1) if self.loss.takes_ids else scores
