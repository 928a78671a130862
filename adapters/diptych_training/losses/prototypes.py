"""The loss of classes with one vector each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features
from diptych_training.models.prototypes import Prototypes
from diptych_training.models.trained_module import last_of


class PrototypeLoss(torch.nn.Module):
    """`-log softmax_k(cos(u, p_k) / tau)` at the class of each text, for a model of `prototype_model`.

    The adaptation of Query-as-Anchor (Alipay, 2026); with fixed means for prototypes the head of prototypical networks:
    Snell, Swersky, Zemel, NeurIPS 2017.

    Requirements: one column of texts; labels: the class of each, integers `[B]`.

    Args:
        model: of `prototype_model`.
        tau: temperature.
    """

    def __init__(self, model: Any, *, tau: float = 0.05) -> None:
        super().__init__()
        if tau <= 0:
            raise ContractError("unusable tau", where="PrototypeLoss", got=tau, expected="above 0")
        self.model, self.tau = model, tau

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        embeddings = [self.model({**features})["sentence_embedding"] for features in sentence_features]
        return self.compute_loss_from_embeddings(embeddings, labels)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The same from the texts' vectors `[B, D]`, one column of them."""
        if (
            len(embeddings) != 1
            or labels is None
            or labels.shape != (len(embeddings[0]),)
            or labels.is_floating_point()
        ):
            got = f"{len(embeddings)} columns, labels {'none' if labels is None else list(labels.shape)}"
            raise ContractError(
                "the batch is not texts with classes", where="PrototypeLoss", got=got, expected="texts, one class each"
            )
        tuned: Prototypes = last_of(self.model, Prototypes, do="give the loss a model of prototype_model")
        normal = torch.nn.functional.normalize
        scores = normal(embeddings[0].float(), dim=-1) @ normal(tuned.vectors, dim=-1).T
        return torch.nn.functional.cross_entropy(scores / self.tau, labels.to(scores.device))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {"tau": self.tau}
