"""`contrastive`: a dense encoder by one of the losses of the contrastive family, with mined negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych_training.losses import ContrastiveLoss, HybridNCELoss, RetrievalLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section, Share
from diptych_training.recipes.base import RetrievalTraining


class LossOptions(Section):
    """Options of the contrastive family; see `diptych_training.losses.contrastive`."""

    gone: ClassVar[Mapping[str, str]] = {
        "learn_tau": "a learned temperature ranked worse than the best fixed one",
        "reduction": "the decoupled softmax, which is left, ranked best",
        "margin": "it ranked worse than without",
    }

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    label_smoothing: Share = Field(
        0.0, description="Share of the target given to the negatives, 0 to 1. Helped with symmetric, on noisy pairs."
    )
    symmetric: bool = Field(False, description="Also train documents to find their queries.")
    blocks: tuple[Literal["qd", "qq", "dd", "dq"], ...] = Field(("qd",), description="Pairs that serve as negatives.")


class HybridOptions(Section):
    """Negatives that weigh by their hardness (Hybrid-NCE); see `diptych_training.losses.contrastive`."""

    gone: ClassVar[Mapping[str, str]] = {
        "alpha": "no effect was measured",
        **dict.fromkeys(("groups", "further", "iou_min"), "documents of like groups as positives did not help"),
    }

    beta: float = Field(0.1, ge=0, description="Extra weight of hard negatives; 0 weighs all equally.")


class Options(RetrievalOptions):
    """Options of `contrastive`."""

    gone: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("queue", "queue_momentum", "mixing"), "a queue ranked worse than none, with mixes or without"),
        "sampler": "no effect was measured: the loss leaves duplicates out by itself",
    }

    loss: LossOptions = Field(default_factory=LossOptions)
    hybrid: HybridOptions | None = Field(None, description="Use the Hybrid-NCE loss, which weights negatives.")

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        unusable = [f"loss.{option}" for option in self.loss.changed("label_smoothing", "blocks")]
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
            common: dict[str, Any] = {"tau": options.tau, "symmetric": options.symmetric}
            return HybridNCELoss(model, beta=hybrid.beta, relevance=relevance, **common)
        return ContrastiveLoss(model, relevance=relevance, **options.model_dump())
