"""`dexml`: a dense encoder for queries with many relevant documents, against all documents or a pool of them.

Source: Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.
See docs/research/methods/dexml.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from diptych.errors import ConfigError
from diptych_training.label_pool import LabelPool, PoolCollator, PoolRefresh, ShuffledBatches
from diptych_training.losses import ContrastiveLoss, SoftTopKLoss
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.running import Fitted
from diptych_training.running.families import prompts_of_sides

FromZero = Annotated[int, Field(ge=0)]
PoolSize = Annotated[int | None, Field(ge=1, description="Maximum documents per batch; null takes all.")]


class PoolOptions(Section):
    """The documents that a batch is compared with; see `diptych_training.label_pool.LabelPool`."""

    gone: ClassVar[Mapping[str, str]] = dict.fromkeys(("cluster_from", "cluster_size"), "no effect was measured")

    size: PoolSize = 3000
    num_pos: Positive = Field(3, description="Maximum positives per query in the pool.")
    num_neg: FromZero = Field(6, description="Hard negatives per query in the pool.")
    refresh_every: Positive = Field(5, description="Epochs between updates of hard negatives.")
    mine_from: FromZero = Field(0, description="First epoch with hard negatives, from 0.")
    depth: Positive | None = Field(None, description="Hard negatives kept per query; null is num_neg * refresh_every.")


class PoolingOptions(RetrievalOptions):
    """Options of recipes with a pool."""

    shared: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("negatives",)

    @model_validator(mode="after")
    def _negatives_of_the_pool(self) -> Self:
        if "negatives" in self.model_fields_set:
            raise ValueError("negatives are mined during training: leave the section out, see pool")
        return self


P = TypeVar("P", bound=PoolingOptions)


class Pooling(RetrievalTraining[P]):
    """A recipe whose rows are queries, and whose batches have a pool; a subclass chooses pool and loss."""

    pooling: PoolOptions

    def data_steps(self) -> list[str]:
        """Have synthetic queries written, if configured; negatives are found during training."""
        return self._write_queries()

    @cached_property
    def pool(self) -> LabelPool:
        """The pool of the queries that are trained."""
        positives, options = self.data.relevant_numbers(), self.pooling
        sizes = {"size": options.size, "num_pos": options.num_pos, "num_neg": options.num_neg}
        return LabelPool(positives, documents=len(self.data.documents), seed=self.options.seed, **sizes)  # type: ignore[arg-type]

    def rows(self) -> Any:
        """A row for each query: its text, and its number as `label`."""
        from datasets import Dataset

        texts = list(self.data.queries.values())
        numbers = list(self.pool.positives)
        return Dataset.from_dict({"query": [texts[number] for number in numbers], "label": numbers})

    def fit(self, model: Any) -> Fitted:
        """Train on the queries."""
        rows = self.rows()
        texts = list(self.data.documents.values())
        prompts = {side: text for side, text in prompts_of_sides(model).items() if text}
        fitted = self.fitted(
            model,
            rows,
            self.loss(model),
            sampler=ShuffledBatches,
            collator=PoolCollator(model.preprocess, self.pool, texts, prompts=prompts),
            more_callbacks=[self.refresh(model, list(rows["query"]), texts)] if self.pooling.size else [],
            changes=self.changes(),
        )
        if self.pool.dropped:
            share = f"{self.pool.dropped_share:.1%}"
            self.remarks.append(
                f"pools of {self.pool.size} documents left out {share} of the positives that were drawn"
            )
        return fitted

    def refresh(self, model: Any, queries: list[str], documents: list[str]) -> PoolRefresh:
        """The callback that mines hard negatives again."""
        options = self.pooling
        settings: dict[str, Any] = {"every": options.refresh_every, "mine_from": options.mine_from}
        settings |= {"depth": options.depth, "folder": self.folder.path / "data"}
        return PoolRefresh(model, queries, documents, self.pool, **settings)

    def changes(self) -> dict[str, Any]:
        """Arguments of the trainer beside those of the `training` section."""
        return {}


class LossOptions(Section):
    """Which of the two losses; see `diptych_training.losses.contrastive` and `listwise`."""

    gone: ClassVar[Mapping[str, str]] = {"sample_positives": "one drawn positive ranked worse than all"}

    name: Literal["decoupled_softmax", "soft_topk"] = Field("decoupled_softmax", description="Loss to use.")
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    k: Positive = Field(5, description="With soft_topk: size of the top, and positives drawn per query and step.")
    alpha: AboveZero = Field(2.0, description="With soft_topk: slope.")


class WholePool(PoolOptions):
    """All documents by default."""

    size: PoolSize = None


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
            return SoftTopKLoss(model, k=options.k, alpha=options.alpha, sample_positives=options.k, **common)
        return ContrastiveLoss(model, **common)
