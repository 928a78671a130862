"""`cprd`: a dense encoder learns a reranker's order of the hard negatives, but not its scores.

Source: Contrastive Partial Ranking Distillation; see docs/methods/cprd.md.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from diptych_training.losses import CPRDLoss
from diptych_training.options import AboveZero, Beside, Section
from diptych_training.recipes.common.remining import RenewedNegatives, Renewing, RenewingOptions

Probability = Annotated[float, Field(ge=0, le=1)]


class LossOptions(Section):
    """Of the partial ranking; see `diptych_training.losses.cprd.CPRDLoss`."""

    tau: AboveZero = Field(0.07, description="Temperature: cosines are divided by it.")
    min_prob: Probability = Field(0.1, description="Negatives whose score has a lower sigmoid are not ordered.")
    top: Probability | None = Field(None, description="Instead: the share of the negatives, the best, that is ordered.")
    weight: AboveZero = Field(1.0, description="Of the order beside the contrastive loss.")


class Negatives(RenewedNegatives):
    """Enough negatives that their order is informative."""

    per_query: Beside = 16


class Options(RenewingOptions):
    """Options of `cprd`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    negatives: Negatives = Field(default_factory=Negatives)


class Cprd(Renewing[Options]):
    """Trains a dense encoder by a teacher's order."""

    name: ClassVar[str] = "cprd"
    with_ids: ClassVar[bool] = True

    def loss(self, model: Any) -> Any:
        """The contrastive loss over the batch, and the likelihood of the teacher's order."""
        return CPRDLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
