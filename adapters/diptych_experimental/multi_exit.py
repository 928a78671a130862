"""`multi_exit`: a dense encoder with exits after several of its layers, each exit a model of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from diptych.training import Registration
from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.base import Features, RetrievalLoss
from diptych_training.options import RetrievalOptions
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.recipes.contrastive import LossOptions
from diptych_training.recipes.elastic import EMBEDDINGS, ExitsOptions, exit_model, exits_of, export_exits, multi_exit
from diptych_training.running.run import measured


class Options(RetrievalOptions):
    """Options of `multi_exit`."""

    exits: ExitsOptions
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with several exits: leave it out"


class MultiExit(RetrievalTraining[Options]):
    """Trains a dense encoder at several depths together."""

    name: ClassVar[str] = "multi_exit"

    def model(self) -> Any:
        """The encoder with its exits."""
        return multi_exit(super().model(), self.options.exits.layers, option="exits.layers")

    def check_model(self) -> None:
        """Refuse layers that the model does not have, or cannot be left after."""
        self.model()

    def loss(self, model: Any) -> Any:
        """The contrastive family's loss at each exit."""
        inner = ContrastiveLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
        return MultiExitLoss(inner)

    def export(self, model: Any) -> list[Registration]:
        """The deepest exit as the folder's model, the others in folders of their own, all measured."""
        folders, evaluator = export_exits(model, self.folder.path), self.evaluator()
        evaluator = evaluator and evaluator.computed_in(self.options.training.precision)
        *inner, deepest = folders
        self.measured_parts = {f"exit_{n}": measured(exit_model(model, n), evaluator) for n in inner}
        names_of_exits = [(deepest, ""), *((layer, f"exit_{layer}") for layer in reversed(inner))]
        return [Registration(self.family.adapter, {"model": str(folders[n])}, name) for n, name in names_of_exits]


class MultiExitLoss(torch.nn.Module):
    """`sum over exits i of i / I L_i`, any loss at each exit and I the deepest, for a model of `multi_exit`.

    Gurioli et al., "One Model to Train them All: Hierarchical Self-Distillation for Enhanced Early Layer Embeddings",
    2025: lower layers get every exit's gradient, deeper exits count more.

    Requirements: what `loss` requires.

    Args:
        loss: of one exit; its model is trained.

    Raises:
        ContractError: the model has no exits.
    """

    def __init__(self, loss: RetrievalLoss) -> None:
        super().__init__()
        self.model, self.loss, self.layers = loss.model, loss, exits_of(loss.model).layers

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted losses of a batch by exit, `exit_2` and so on; their sum is what is trained."""
        columns = [self.model({**features})[EMBEDDINGS] for features in sentence_features]
        return {
            f"exit_{layer}": layer / self.layers[-1] * self.loss.compute_loss_from_embeddings(embeddings, labels)
            for layer, embeddings in zip(self.layers, zip(*columns, strict=True), strict=True)
        }
