"""`dexml`: a dense encoder for queries with many relevant documents, against all documents or a pool of them.

Source: Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.
See docs/research/methods/dexml.md.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

from pydantic import Field

from diptych.errors import ConfigError
from diptych_training.losses import ContrastiveLoss, SoftTopKLoss
from diptych_training.options import AboveZero, Positive, Section
from diptych_training.recipes.common.pooling import ClusterFrom, Pooling, PoolingOptions, PoolOptions, PoolSize


class LossOptions(Section):
    """Which of the two losses; see `diptych_training.losses.contrastive` and `soft_top_k`."""

    name: Literal["decoupled_softmax", "soft_topk"] = Field("decoupled_softmax", description="Loss to use.")
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    sample_positives: Positive | None = Field(
        None, description="Positives drawn per query and step; null is all, or k for soft_topk."
    )
    k: Positive = Field(5, description="With soft_topk: size of the top.")
    alpha: AboveZero = Field(2.0, description="With soft_topk: slope.")


class WholePool(PoolOptions):
    """All documents by default."""

    size: PoolSize = None
    cluster_from: ClusterFrom = None


class Options(PoolingOptions):
    """Options of `dexml`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    pool: WholePool = Field(default_factory=WholePool)


class Dexml(Pooling[Options]):
    """Trains a dense encoder by decoupled softmax or soft top-k."""

    name: ClassVar[str] = "dexml"

    @property
    def pooling(self) -> PoolOptions:  # type: ignore[override]
        """The pool: all documents, unless said otherwise."""
        return self.options.pool

    def data_steps(self) -> list[str]:
        """The data steps with a pool; raises if soft top-k would include all documents.

        Raises:
            ConfigError: all documents of a batch are among the k best.
        """
        k, largest = self.options.loss.k, min(len(self._judged[0].documents), self.pooling.size or sys.maxsize)
        if self.options.loss.name == "soft_topk" and k >= largest:
            raise ConfigError(
                "k covers all documents, so nothing is learned",
                where="loss.k",
                got=f"{k}, and {largest:,} documents that a query is compared with",
                expected="fewer than these",
            )
        return super().data_steps()

    def loss(self, model: Any) -> Any:
        """The loss over the pool."""
        options = self.options.loss
        common: dict[str, Any] = {"relevance": self.pool.relevance, "tau": options.tau}
        if options.name == "soft_topk":
            positives = options.sample_positives or options.k
            return SoftTopKLoss(model, k=options.k, alpha=options.alpha, sample_positives=positives, **common)
        return ContrastiveLoss(model, sample_positives=options.sample_positives, **common)
