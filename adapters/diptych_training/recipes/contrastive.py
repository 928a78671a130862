"""`contrastive`: a dense encoder by one of the losses of the contrastive family, with mined negatives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych_training.losses import ContrastiveLoss, HybridNCELoss, RetrievalLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section, Share
from diptych_training.recipes.base import RetrievalTraining


class LossOptions(Section):
    """Options of the contrastive family; see `diptych_training.losses.contrastive`."""

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    label_smoothing: Share = Field(
        0.0, description="Share of the target given to the negatives, 0 to 1. Helped with symmetric, on noisy pairs."
    )
    symmetric: bool = Field(False, description="Also train documents to find their queries.")
    blocks: tuple[Literal["qd", "qq", "dd", "dq"], ...] = Field(("qd",), description="Pairs that serve as negatives.")


class HybridOptions(Section):
    """Negatives that weigh by their hardness (Hybrid-NCE); see `diptych_training.losses.contrastive`."""

    beta: float = Field(0.1, ge=0, description="Extra weight of hard negatives; 0 weighs all equally.")


class Options(RetrievalOptions):
    """Options of `contrastive`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    hybrid: HybridOptions | None = Field(None, description="Use the Hybrid-NCE loss, which weights negatives.")

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        unusable = [f"loss.{option}" for option in self.loss.changed("label_smoothing", "symmetric", "blocks")]
        if self.hybrid is not None and unusable:
            raise ValueError(f"hybrid is a loss of its own, without {', '.join(unusable)}")
        return self


class Contrastive(RetrievalTraining[Options]):
    """Trains a dense encoder contrastively."""

    name: ClassVar[str] = "contrastive"

    def loss(self, model: Any) -> RetrievalLoss:
        """The family's loss or Hybrid-NCE."""
        options, hybrid, relevance = self.options.loss, self.options.hybrid, self.data.relevance()
        if hybrid is not None:
            return HybridNCELoss(model, tau=options.tau, beta=hybrid.beta, relevance=relevance)
        return ContrastiveLoss(model, relevance=relevance, **options.model_dump())
