"""`ElasticLoss`: every exit, at every width, learns to find what the whole encoder finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.common.base import Features
from diptych_training.losses.multi_exit import exits_of
from diptych_training.losses.student import divergence
from diptych_training.models.multi_exit import EMBEDDINGS


class ElasticLoss(torch.nn.Module):
    """Configuration-invariant distillation of exits and widths, for a model of `multi_exit`.

    With t the teacher's vectors of a batch, v_i those of exit i, v_I of the deepest one, and [:w] the first w numbers
    at length 1, it is the sum of

    - `mean(1 - cos(v_I, t)) + mean(|v_I - t|^2)`, which keeps the deepest exit close to the teacher;
    - the mean over exits and widths of `KL(softmax(t t' / tau) || softmax(v_i[:w] v_I[:w]' / tau))`: what each finds
      among the deepest exit's vectors of the same width is what the teacher finds. Each row's own vector is left out;
    - `invariance` times the mean over the other exits and all widths of `1 - cos(v_i[:w], sg(v_I[:w]))`.

    Args:
        model: of `multi_exit`.
        vectors: the teacher's, float32 `[N, D]`.
        widths: numbers of leading dimensions, D among them or not.
        weight: of the divergence.
        invariance: of the distance to the deepest exit.
        tau: temperature of both distributions; scores are cosines.

    Raises:
        ContractError: the model has no exits, or its vectors are shorter than a width.
    """

    def __init__(
        self,
        model: Any,
        vectors: Tensor,
        *,
        widths: Sequence[int] = (),
        weight: float = 1.0,
        invariance: float = 1.0,
        tau: float = 0.05,
    ) -> None:
        super().__init__()
        self.model, self.weight, self.invariance, self.tau = model, weight, invariance, tau
        self.layers, dimension = exits_of(model), vectors.shape[1]
        if bad := [width for width in widths if not 0 < width <= dimension]:
            raise ContractError("a width is out of range", where="widths", got=bad[0], expected=f"1 to {dimension}")
        self.widths = sorted({*widths, dimension}, reverse=True)
        self.vectors: Tensor
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss of a batch: one column of texts, and in `labels` `[B]` the rows of their vectors."""
        (features,) = sentence_features
        return self.of_vectors(self.model(dict(features))[EMBEDDINGS], self.vectors[labels])

    def of_vectors(self, exits: Sequence[Tensor], teacher: Tensor) -> dict[str, Tensor]:
        """The parts of the loss of each exit's vectors and the teacher's, all `[B, D]`; scalars by name."""
        exits, teacher = [vectors.float() for vectors in exits], _unit(teacher.float())
        whole = exits[-1]
        parts = {"teacher": (1 - (_unit(whole) * teacher).sum(1)).mean() + (whole - teacher).square().sum(1).mean()}
        short = [[_unit(vectors[:, :width]) for vectors in exits] for width in self.widths]
        if self.weight and len(teacher) > 2:
            terms = [divergence(own, level[-1], teacher, tau=self.tau) for level in short for own in level]
            parts["divergence"] = self.weight * torch.stack(terms).mean()
        apart = [1 - (own * level[-1].detach()).sum(1).mean() for level in short for own in level[:-1]]
        if self.invariance and apart:
            parts["invariance"] = self.invariance * torch.stack(apart).mean()
        return parts

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        settings = {"weight": self.weight, "invariance": self.invariance, "tau": self.tau}
        return {"loss": type(self).__name__, "exits": self.layers, "widths": self.widths, **settings}


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)
