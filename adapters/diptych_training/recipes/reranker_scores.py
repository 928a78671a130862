"""`distill` and `cprd`: a dense encoder learns from a reranker's scores alone, or from their order beside contrast.

Source of `cprd`: Contrastive Partial Ranking Distillation; see docs/methods/cprd.md.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from diptych_training.losses import CPRDLoss, KLDistillation
from diptych_training.losses.cprd import Taught
from diptych_training.options import AboveZero, Beside, Section
from diptych_training.recipes.common.remining import RefreshEvery, ReminedNegatives, ReminingOptions, ReminingTraining

Probability = Annotated[float, Field(ge=0, le=1)]


class DivergenceOptions(Section):
    """Options of the divergence; see `diptych_training.losses.distillation.KLDistillation`."""

    tau: AboveZero = Field(0.05, description="Temperature of the student: cosines are divided by it.")
    temperature: AboveZero = Field(1.0, description="Of both distributions; higher looks at the lower ranks more.")


class DistillNegatives(ReminedNegatives):
    """Enough negatives for a distribution; mined once by default."""

    per_query: Beside = 8
    refresh_every: RefreshEvery = 0


class DistillOptions(ReminingOptions):
    """Options of `distill`."""

    loss: DivergenceOptions = Field(default_factory=DivergenceOptions)
    negatives: DistillNegatives = Field(default_factory=DistillNegatives)


class Distill(ReminingTraining[DistillOptions]):
    """Trains a dense encoder by a teacher's distribution."""

    name: ClassVar[str] = "distill"

    def loss(self, model: Any) -> Any:
        """Kullback-Leibler divergence from the teacher's distribution."""
        return KLDistillation(model, **self.options.loss.model_dump())


class OrderOptions(Section):
    """Of the partial ranking; see `diptych_training.losses.cprd.CPRDLoss`."""

    tau: AboveZero = Field(0.07, description="Temperature: cosines are divided by it.")
    min_prob: Probability = Field(0.1, description="Negatives whose score has a lower sigmoid are not ordered.")
    top: Probability | None = Field(None, description="Instead: the share of the negatives, the best, that is ordered.")
    weight: AboveZero = Field(1.0, description="Of the teacher's part beside the contrastive loss.")
    kind: Taught = Field(
        "order",
        description="What the teacher's part is: the order, as published; the distribution over all negatives; or the "
        "scores. With a trained cross-encoder as the teacher, scores with weight 0.3 ranked best.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = ", ".join(f"loss.{name}" for name in self.changed("min_prob", "top"))
        if self.kind != "order" and given:
            raise ValueError(f"{given}: for loss.kind order alone, not {self.kind}: leave it out")
        return self


class OrderNegatives(ReminedNegatives):
    """Enough negatives that their order is informative."""

    per_query: Beside = 16


class CprdOptions(ReminingOptions):
    """Options of `cprd`."""

    loss: OrderOptions = Field(default_factory=OrderOptions)
    negatives: OrderNegatives = Field(default_factory=OrderNegatives)


class Cprd(ReminingTraining[CprdOptions]):
    """Trains a dense encoder by a teacher's order."""

    name: ClassVar[str] = "cprd"
    with_ids: ClassVar[bool] = True

    def loss(self, model: Any) -> Any:
        """The contrastive loss over the batch, and the teacher's part."""
        return CPRDLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
