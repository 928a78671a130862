"""`contrastive`: a dense encoder by one of the losses of the contrastive family, with mined negatives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from diptych_training.losses import CachedLoss, ContrastiveLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section, Share
from diptych_training.recipes.base import RetrievalTraining


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


class Options(RetrievalOptions):
    """Options of `contrastive`."""

    loss: LossOptions = Field(default_factory=LossOptions)


class Contrastive(RetrievalTraining[Options]):
    """Trains a dense encoder contrastively."""

    name: ClassVar[str] = "contrastive"

    def loss(self, model: Any) -> Any:
        """The family's loss, over batches that are embedded in pieces when `mini_batch_size` is given."""
        loss = ContrastiveLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
        size = self.options.training.mini_batch_size
        return CachedLoss(loss, mini_batch_size=size) if size else loss
