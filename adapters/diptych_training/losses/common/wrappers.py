"""Losses that wrap another loss: with a teacher that scores documents during training, or over batches in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss

Teacher: TypeAlias = Callable[[Tensor], Tensor]  # ids [B, 1 + C] of queries and documents -> scores [B, C]


class OnlineDistillationLoss(RetrievalLoss):
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
                "a teacher needs ids as labels",
                where="OnlineDistillationLoss",
                got="no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}",
                expected=f"integers [B, {columns}]: query, positive and each negative",
            )
        scores = self.teacher(labels).to(labels.device)
        return torch.cat([labels.to(scores), scores], 1) if self.loss.takes_ids else scores


class CachedLoss(CachedLossMixin, torch.nn.Module):
    """Any `RetrievalLoss` over batches whose activations do not fit into memory: gradient caching.

    Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.
    The caching itself is sentence-transformers' own.

    The batch is embedded in pieces without gradients, the loss taken over all of it, and each piece embedded again with
    its share of the gradient: the same gradient as without, for one more forward pass.

    Args:
        loss: that is taken over the whole batch.
        mini_batch_size: rows of a column that are embedded at a time.
    """

    def __init__(self, loss: RetrievalLoss, *, mini_batch_size: int = 32) -> None:
        super().__init__()
        if loss.similarity == "maxsim":
            raise ContractError(
                "late interaction cannot be trained with cached gradients",
                where="CachedLoss",
                got="similarity maxsim",
                do="use smaller batches, or sentence-transformers' CachedMultiVectorMultipleNegativesRankingLoss",
            )
        self.model, self.loss, self.mini_batch_size = loss.model, loss, mini_batch_size

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; see the cached loss."""
        batch = list(sentence_features)
        self.loss.look_at(batch)
        loss: Tensor = self.forward_cached(batch, labels)
        return loss

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss from the pieces of each column, and its gradient up to them."""
        loss = self.loss.compute_loss_from_embeddings([torch.cat(column) for column in reps], labels)
        if with_backward:
            loss.backward()
            return loss.detach()
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {"loss": type(self.loss).__name__, **inner, "mini_batch_size": self.mini_batch_size}
