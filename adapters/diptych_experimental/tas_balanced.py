"""`tas_balanced`: Margin-MSE from a reranker, over batches of one topic with balanced margins.

Source: Hofstätter et al., SIGIR 2021; see docs/research/methods/tas_balanced.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from sentence_transformers.sentence_transformer.modules import Normalize

from diptych.errors import ConfigError
from diptych_experimental.samplers import TASBalanced
from diptych_training.losses import DualMarginMSELoss
from diptych_training.losses.common.base import Features
from diptych_training.options import AboveZero, Beside, Positive, Relative, Section
from diptych_training.recipes.common.distillation import (
    DistillationNegatives,
    DistillationOptions,
    DistillationTraining,
)
from diptych_training.rows import MarginRows, left_out, margin_rows, query_list
from diptych_training.running import Fitted
from diptych_training.running.columns import prompts_of_sides

CLUSTERS = "clusters"
WITHIN = 0.95  # of the margins are brought within 1
PER_CLUSTER = 200  # queries, as in the paper


class SamplerOptions(Section):
    """How batches are drawn; see `diptych_experimental.samplers.TASBalanced`."""

    clusters: Positive | None = Field(None, description="Query clusters; null is one per 200 queries, at least 10.")
    clusters_per_batch: Positive = Field(1, description="Clusters per batch.")
    bins: Positive = Field(10, description="Bins of margins.")
    balanced: bool = Field(True, description="Sample margins evenly; false samples pairs evenly (plain TAS).")


class LossOptions(Section):
    """See `diptych_training.losses.distillation.DualMarginMSELoss`."""

    in_batch: str | None = Field(
        None, description="Dense model with the same tokenizer that teaches the margins in the batch."
    )
    teacher_scale: AboveZero | None = Field(
        None,
        description="Factor of the pairwise teacher's scores. null is 1; for models of unit vectors, whose margins are"
        " at most 2, it brings 95 of 100 margins within 1.",
    )
    in_batch_weight: float = Field(0.75, ge=0, description="Weight of the in-batch margins beside the pairs' own.")


class Negatives(DistillationNegatives):
    """As many as margins can be balanced among; the teacher, and no limit, judges those near the positive."""

    per_query: Beside = 8
    relative: Relative = None


class Options(DistillationOptions):
    """Options of `tas_balanced`."""

    negatives: Negatives = Field(default_factory=Negatives)
    sampler: SamplerOptions = Field(default_factory=SamplerOptions)
    loss: LossOptions = Field(default_factory=LossOptions)

    @model_validator(mode="after")
    def _whole_batch(self) -> Self:
        if self.loss.in_batch is not None and self.training.mini_batch_size is not None:
            raise ValueError(
                "training.mini_batch_size does not go with loss.in_batch, whose teacher sees a batch as a whole: leave "
                "one of both out"
            )
        return self


class TasBalanced(DistillationTraining[Options]):
    """Trains a dense encoder on a teacher's margins."""

    name: ClassVar[str] = "tas_balanced"

    def data_steps(self) -> list[str]:
        """Mine negatives, ask the teacher, and put queries of one topic into one cluster."""
        done = super().data_steps()
        if self.folder.stored(CLUSTERS) is not None:
            return done
        clusters = self._clusters()
        self.folder.store(CLUSTERS, ({"query": query, "cluster": cluster} for query, cluster in clusters.items()))
        return [*done, f"{len(clusters):,} queries lie in {len(set(clusters.values())):,} clusters"]

    def fit(self, model: Any) -> Fitted:
        """Train on pairs, drawn by topic and margin."""
        prepared = self.pairs()
        prepared = prepared.scaled(self._teacher_scale(model, prepared))
        options = self.options.sampler
        cluster = {self.data.query_numbers[row["query"]]: row["cluster"] for row in self.folder.stored(CLUSTERS) or ()}
        sampler = TASBalanced(
            prepared.queries,
            np.array([cluster[query] for query in prepared.queries.tolist()]),
            prepared.margins if options.balanced else None,
            bins=options.bins,
            clusters_per_batch=options.clusters_per_batch,
        )
        self.remarks += filter(None, [left_out(self.data, prepared.rows), self._single(sampler)])
        return self.fitted(model, prepared.rows, self.loss(model), sampler=sampler)

    def pairs(self) -> MarginRows:
        """Each positive with each negative of its query, and what the teacher gives them."""
        count, stored = self.options.negatives.per_query, self.teacher.scores is not None
        pick = _spread if stored else _hardest
        return margin_rows(self.data, {q: pick(names, count) for q, names in self.negatives().items()}, self.scores())

    def loss(self, model: Any) -> Any:
        """Squared differences of margins."""
        options = self.options.loss
        teacher = (
            _in_batch(self.family.load(options.in_batch, self.options.training), model) if options.in_batch else None
        )
        return DualMarginMSELoss(model, in_batch=teacher, in_batch_weight=options.in_batch_weight)

    def _single(self, sampler: TASBalanced) -> str | None:
        """How many queries no batch draws for want of a second pair, in words; None where each is drawn."""
        if not sampler.single:
            return None
        names, count = list(self.data.queries), len(sampler.pairs) + len(sampler.single)
        return (
            f"{len(sampler.single):,} of {count:,} queries were left out, since they have one pair and two are drawn "
            f"among ({query_list([names[query] for query in sampler.single])})"
        )

    def _teacher_scale(self, model: Any, prepared: MarginRows) -> float:
        scale = self.options.loss.teacher_scale
        limit = float(np.quantile(np.abs(prepared.margins), WITHIN))
        if scale is not None or limit <= 1 or not any(isinstance(part, Normalize) for part in model):
            return scale or 1.0
        self.remarks.append(f"the teacher's margins were divided by {limit:.3g}, to fit a model of unit vectors")
        return 1 / limit

    def _clusters(self) -> dict[str, int]:
        from sklearn.cluster import KMeans

        queries = list(self.data.qrels)
        count = self.options.sampler.clusters or max(10, len(queries) // PER_CLUSTER)
        vectors = self.model().encode_query([self.data.queries[query] for query in queries], show_progress_bar=False)
        labels = KMeans(min(count, len(queries)), random_state=self.options.seed, n_init=1).fit_predict(vectors)
        return dict(zip(queries, labels.tolist(), strict=True))


def _hardest(names: Sequence[str], count: int) -> Sequence[str]:
    """The hardest."""
    return names[:count]


def _spread(names: Sequence[str], count: int) -> Sequence[str]:
    """`count` at even steps through what a teacher ordered, for margins of all sizes, not the smallest alone."""
    return names if len(names) <= count else [names[place * len(names) // count] for place in range(count)]


def _in_batch(teacher: Any, student: Any) -> Any:
    """A teacher over the student's tokens: scores `[B, 2 B]` of all positives, then of all negatives."""
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ConfigError(
            "the in-batch teacher and the trained model have different tokenizers",
            where="loss.in_batch",
            expected="a model with the same tokenizer",
        )
    if prompts_of_sides(teacher) != prompts_of_sides(student):
        raise ConfigError(
            "the in-batch teacher and the trained model have different prompts",
            where="loss.in_batch",
            got=prompts_of_sides(teacher),
            expected=prompts_of_sides(student),
            do="give the model the teacher's prompts: prompts.query and prompts.document",
        )
    teacher.eval()

    def scores(columns: Sequence[Features]) -> torch.Tensor:
        queries, *documents = (teacher(dict(features))["sentence_embedding"] for features in columns)
        similarity: torch.Tensor = queries @ torch.cat(documents).T
        return similarity

    return scores
