"""`distill`: a dense encoder learns the distribution of a reranker's scores over each query's candidates."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from diptych_training.losses import KLDistillation
from diptych_training.options import AboveZero, Beside, Section
from diptych_training.recipes.common.remining import RefreshEvery, RenewedNegatives, Renewing, RenewingOptions


class LossOptions(Section):
    """Options of the divergence; see `diptych_training.losses.distillation.KLDistillation`."""

    tau: AboveZero = Field(0.05, description="Temperature of the student: cosines are divided by it.")
    temperature: AboveZero = Field(1.0, description="Of both distributions; higher looks at the lower ranks more.")


class Negatives(RenewedNegatives):
    """Enough negatives for a distribution; mined once by default."""

    per_query: Beside = 8
    refresh_every: RefreshEvery = 0


class Options(RenewingOptions):
    """Options of `distill`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    negatives: Negatives = Field(default_factory=Negatives)


class Distill(Renewing[Options]):
    """Trains a dense encoder by a teacher's distribution."""

    name: ClassVar[str] = "distill"

    def loss(self, model: Any) -> Any:
        """Kullback-Leibler divergence from the teacher's distribution."""
        return KLDistillation(model, **self.options.loss.model_dump())
