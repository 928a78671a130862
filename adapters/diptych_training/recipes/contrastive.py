"""`contrastive`: a dense encoder by one of the losses of the contrastive family, with mined negatives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych_training.losses import ContrastiveLoss, HybridNCELoss, Mixing, RetrievalLoss
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section, Share
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.samplers import NoDuplicates

HYBRID = {"tau", "symmetric", "margin"}  # what of the loss's options Hybrid-NCE has, too


class LossOptions(Section):
    """Of the contrastive family; see `diptych_training.losses.contrastive`."""

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    learn_tau: bool = Field(False, description="Train the temperature.")
    reduction: Literal["decoupled", "supcon", "balanced"] = Field(
        "decoupled", description="Which of a query's positives stand in the denominator of one of them."
    )
    denominator: Literal["sum", "mean"] = Field("sum", description="mean: the batch size does not matter.")
    label_smoothing: Share = Field(0.0, description="Share of the target that goes to the negatives.")
    symmetric: bool = Field(False, description="Let documents ask for their queries, too.")
    blocks: tuple[Literal["qd", "qq", "dd", "dq"], ...] = Field(("qd",), description="Similarities that are negatives.")
    margin: AboveZero | None = Field(None, description="Leave out negatives nearer than the positive by this.")


class MixingOptions(Section):
    """Hard negatives mixed of others (MoCHi); see `diptych_training.losses.mixing`."""

    hardest: Positive = Field(64, description="Negatives of a query that are mixed, the hardest of the batch.")
    pairs: int = Field(64, ge=0, description="Mixes of two of them.")
    with_query: int = Field(16, ge=0, description="Mixes of one and the query.")
    start_step: int = Field(0, ge=0, description="Steps before mixing begins.")


class HybridOptions(Section):
    """Negatives that weigh by their hardness (Hybrid-NCE); see `diptych_training.losses.hybrid_nce`."""

    beta: float = Field(0.1, ge=0, description="How much more hard negatives weigh; 0 weighs all alike.")
    alpha: AboveZero = Field(1.0, description="Weight of the positives in the denominator.")


class Options(RetrievalOptions):
    """Options of `contrastive`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    mixing: MixingOptions | None = Field(None, description="Mix further hard negatives of those of the batch.")
    hybrid: HybridOptions | None = Field(None, description="Take Hybrid-NCE, which weighs negatives, for the loss.")
    sampler: Literal["random", "no_duplicates"] = Field(
        "random", description="no_duplicates: no document of a row is in another of its batch, or relevant to it."
    )

    @model_validator(mode="after")
    def _hybrid_alone(self) -> Self:
        if self.hybrid is None:
            return self
        changed = {name for name, value in self.loss if value != getattr(LossOptions(), name)} - HYBRID
        refused = [f"loss.{name}" for name in sorted(changed)] + (["mixing"] if self.mixing else [])
        if refused:
            raise ValueError(f"hybrid is a loss of its own, without {', '.join(refused)}")
        return self


class Contrastive(RetrievalTraining[Options]):
    """Trains a dense encoder contrastively."""

    name: ClassVar[str] = "contrastive"

    def loss(self, model: Any) -> RetrievalLoss:
        """The family's loss, or Hybrid-NCE."""
        options, hybrid, mixing = self.options.loss, self.options.hybrid, self.options.mixing
        if hybrid is None:
            mixed = Mixing(**mixing.model_dump(), seed=self.options.seed) if mixing else None
            return ContrastiveLoss(model, relevance=self.data.relevance(), mixing=mixed, **options.model_dump())
        return HybridNCELoss(
            model,
            tau=options.tau,
            symmetric=options.symmetric,
            alpha=hybrid.alpha,
            beta=hybrid.beta,
            relevance=self.data.relevance(margin=options.margin),
        )

    def sampler(self, rows: Any) -> Any | None:
        """Batches without duplicates, where the options ask for them."""
        if self.options.sampler == "random":
            return None
        return NoDuplicates(rows["label"][:], self.data.relevant_numbers())
