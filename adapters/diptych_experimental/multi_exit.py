"""`multi_exit`: a dense encoder with exits after several of its layers, each exit a model of its own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from diptych.training import Registration
from diptych_training.losses import ContrastiveLoss
from diptych_training.models.multi_exit import MultiExitLoss, exit_model, export_exits, multi_exit
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.recipes.contrastive import LossOptions
from diptych_training.running.run import measured


class ExitsOptions(Section):
    """The layers with exits."""

    layers: tuple[Positive, ...] = Field(
        min_length=1, description="Layers after which the model can exit; those above the deepest are removed."
    )
    heads: Literal["separate", "shared", "none"] = Field("separate", description="One linear head per exit, or one.")
    dimension: Positive | None = Field(None, description="Dimension of the embeddings; null is the encoder's.")
    weights: Literal["depth", "equal"] | tuple[AboveZero, ...] = Field(
        "depth", description="Weights of the exits' losses: relative depth, all 1, or one number per exit."
    )
    distill_weight: float = Field(0.0, ge=0, description="Weight of each exit's divergence from the deepest.")
    distill_tau: AboveZero = Field(0.05, description="Temperature of that divergence.")


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
        exits = self.options.exits
        shape: dict[str, Any] = {"heads": exits.heads, "dimension": exits.dimension}
        return multi_exit(super().model(), exits.layers, option="exits.layers", **shape)

    def check_model(self) -> None:
        """Refuse layers that the model does not have, or cannot be left after."""
        self.model()

    def loss(self, model: Any) -> Any:
        """The contrastive family's loss at each exit."""
        exits = self.options.exits
        inner = ContrastiveLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
        distillation = {"distill_weight": exits.distill_weight, "distill_tau": exits.distill_tau}
        return MultiExitLoss(inner, weights=exits.weights, **distillation)

    def export(self, model: Any) -> list[Registration]:
        """The deepest exit as the folder's model, the others in folders of their own, all measured."""
        folders, evaluator = export_exits(model, self.folder.path), self.evaluator()
        evaluator = evaluator and evaluator.computed_in(self.options.training.precision)
        *inner, deepest = folders
        self.measured_parts = {f"exit_{n}": measured(exit_model(model, n), evaluator) for n in inner}
        names_of_exits = [(deepest, ""), *((layer, f"exit_{layer}") for layer in reversed(inner))]
        return [Registration(self.family.adapter, {"model": str(folders[n])}, name) for n, name in names_of_exits]
