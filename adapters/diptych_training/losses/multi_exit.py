"""The losses of several exits of one encoder together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features, RetrievalLoss
from diptych_training.models.multi_exit import EMBEDDINGS


class MultiExitLoss(torch.nn.Module):
    """`sum over exits i of w_i L_i`, any loss at each exit, for a model of `multi_exit`.

    Gurioli et al., "One Model to Train them All: Hierarchical Self-Distillation for Enhanced Early Layer Embeddings",
    2025: lower layers get every exit's gradient, deeper exits count more. With `distill_weight` it adds
    `KL(sg(P_top) || P_i)` of each exit below the last, P the softmax over a query's documents in the batch.

    Requirements: what `loss` requires.

    Args:
        loss: of one exit; its model is trained.
        weights: `depth` for i / I, I the deepest exit; `equal` for 1; or a number for each exit.
        distill_weight: of the divergence from the deepest exit.
        distill_tau: temperature of both sides of it.

    Raises:
        ContractError: the model has no exits, or other weights than it has exits.
    """

    def __init__(
        self,
        loss: RetrievalLoss,
        *,
        weights: Literal["depth", "equal"] | Sequence[float] = "depth",
        distill_weight: float = 0.0,
        distill_tau: float = 0.05,
    ) -> None:
        super().__init__()
        self.model, self.loss = loss.model, loss
        self.distill_weight, self.distill_tau = distill_weight, distill_tau
        self.layers = exits_of(loss.model)
        self.weights = _weights(weights, self.layers)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted losses of a batch by exit, `exit_2` and so on; their sum is what is trained."""
        columns = [self.model({**features})[EMBEDDINGS] for features in sentence_features]
        return self.compute_losses_from_embeddings(columns, labels)

    def compute_losses_from_embeddings(
        self, columns: Sequence[Sequence[Tensor]], labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The same from the embeddings `[B, D]` of each column at each exit."""
        exits = list(zip(*columns, strict=True))
        losses = {
            f"exit_{layer}": weight * self.loss.compute_loss_from_embeddings(embeddings, labels)
            for layer, weight, embeddings in zip(self.layers, self.weights, exits, strict=True)
        }
        if self.distill_weight:
            losses["distill"] = self.distill_weight * self.divergence(exits)
        return losses

    def divergence(self, exits: Sequence[Sequence[Tensor]]) -> Tensor:
        """The mean over exits below the last of their divergence from it; the last gets no gradient."""
        scores = [queries @ documents.T / self.distill_tau for queries, documents in map(self.loss.prepared, exits)]
        target = scores[-1].detach().log_softmax(1)
        terms = [
            torch.nn.functional.kl_div(exit_scores.log_softmax(1), target, reduction="batchmean", log_target=True)
            for exit_scores in scores[:-1]
        ]
        return torch.stack(terms).mean() if terms else scores[-1].sum() * 0

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        settings = {"loss": type(self.loss).__name__, "exits": self.layers, "weights": self.weights}
        return {**settings, **inner, "distill_weight": self.distill_weight}


def exits_of(model: Any) -> list[int]:
    """The layers after which a model has exits.

    Raises:
        ContractError: it has none.
    """
    last = list(model.children())[-1] if list(model.children()) else None
    layers = getattr(last, "layers", None)
    if not isinstance(layers, list):
        do = "give the loss a model of diptych_training.models.multi_exit.multi_exit(model, layers)"
        raise ContractError("the model has no exits", where="MultiExitLoss", got=type(last).__name__, do=do)
    return layers


def _weights(weights: Any, layers: list[int]) -> list[float]:
    if weights == "depth":
        return [layer / layers[-1] for layer in layers]
    if weights == "equal":
        return [1.0] * len(layers)
    if isinstance(weights, str) or len(weights) != len(layers):
        expected = f"depth, equal, or {len(layers)} numbers"
        raise ContractError("unusable weights", where="MultiExitLoss", got=weights, expected=expected)
    return [float(weight) for weight in weights]
