"""Gradient caching: large batches in the memory of small ones.

Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021. The
caching itself is sentence-transformers' own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss


class CachedLoss(CachedLossMixin, torch.nn.Module):
    """Any `RetrievalLoss` over batches whose activations do not fit into memory.

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
                "gradients of late interaction are not cached here",
                where="CachedLoss",
                got="similarity maxsim",
                do="take smaller batches, or sentence-transformers' CachedMultiVectorMultipleNegativesRankingLoss",
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
