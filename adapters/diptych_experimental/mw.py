"""`mw`: a dense encoder whose scores can be compared across queries, by the Mann-Whitney loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from diptych_experimental.mann_whitney import MannWhitneyLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.running.evaluation import HeldOutEvaluator, threshold_evaluator


class LossOptions(Section):
    """See `diptych_experimental.mann_whitney.MannWhitneyLoss`."""

    tau: AboveZero = Field(0.05, description="Temperature: differences of cosines are divided by it.")
    scope: Literal["batch", "query"] = Field(
        "batch", description="Negatives that a positive is compared with: the whole batch's, or its own query's."
    )
    margin: AboveZero | None = Field(None, description="Ignore negatives more similar than the positive by this.")


class Options(RetrievalOptions):
    """Options of `mw`."""

    loss: LossOptions = Field(default_factory=LossOptions)


class MannWhitney(RetrievalTraining[Options]):
    """Trains a dense encoder for one threshold over all queries."""

    name: ClassVar[str] = "mw"

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator, which also measures the threshold."""
        return threshold_evaluator(super().evaluator(), self.held)

    def loss(self, model: Any) -> Any:
        """Every positive against every negative of every query of the batch."""
        options = self.options.loss
        relevance = self.data.relevance(margin=options.margin)
        return MannWhitneyLoss(model, relevance=relevance, tau=options.tau, scope=options.scope)
