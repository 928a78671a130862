"""`mw`: a dense encoder whose scores can be compared across queries, by the Mann-Whitney loss or focal cross-entropy.

Minimising the Mann-Whitney loss minimises an upper bound of 1 - AUC over the pooled scores, once divided by ln 2. It
calibrates (one threshold for all queries) and need not rank better. Focal cross-entropy judges each pair by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from diptych.errors import ContractError
from diptych.evaluate import ScorePool
from diptych.evaluate.scoring import POOLED
from diptych_training.corpus import TrainingData
from diptych_training.data.mining import ModelSource
from diptych_training.losses.base import RetrievalLoss, SeededDraws, mean_of_rows
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.relevance import Candidates, Relevance
from diptych_training.running.run import HeldOutEvaluator, by_metric

AUC = "pooled AUC"
CHUNK = 32  # positives that are compared at a time


class LossOptions(Section):
    """See `MannWhitneyLoss`."""

    tau: AboveZero = Field(0.05, description="Temperature: differences of cosines are divided by it.")
    scope: Literal["batch", "query"] = Field(
        "batch", description="Negatives that a positive is compared with: the whole batch's, or its own query's."
    )


class FocalOptions(Section):
    """Each pair by itself, for retrieval by a threshold; see `FocalBCELoss`."""

    gamma: float = Field(2.0, ge=0, description="Discount of easy pairs; 0 is plain cross-entropy.")
    bias: float = Field(0.0, description="Initial trained bias; -c / tau puts the threshold at cosine c.")
    negatives: Positive | None = Field(None, description="Negatives per positive, drawn per batch; null takes all.")


class Options(RetrievalOptions):
    """Options of `mw`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    focal: FocalOptions | None = Field(None, description="Use focal cross-entropy of each pair as the loss.")

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        if self.focal is not None and self.loss.scope != "batch":
            raise ValueError("focal is a loss of its own, without loss.scope")
        return self


class MannWhitney(RetrievalTraining[Options]):
    """Trains a dense encoder for one threshold over all queries."""

    name: ClassVar[str] = "mw"

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator, which also measures the threshold."""
        return threshold_evaluator(super().evaluator(), self.held)

    def loss(self, model: Any) -> Any:
        """Every positive against every negative of every query of the batch, or each pair by itself."""
        options, focal = self.options.loss, self.options.focal
        relevance = self.data.relevance()
        if focal is not None:
            settings = {"seed": self.options.seed, **focal.model_dump()}
            return FocalBCELoss(model, tau=options.tau, relevance=relevance, **settings)
        return MannWhitneyLoss(model, relevance=relevance, tau=options.tau, scope=options.scope)


class MannWhitneyLoss(RetrievalLoss):
    """The mean of softplus((s- - s+) / tau) over pairs of a positive and a negative score.

    Args:
        model: that is trained.
        tau: temperature; from 0.05 for tiny models, 0.01 in the paper.
        scope: whether a positive meets the negatives of the whole `batch`, or of its own `query` alone (RankNet, BPR).
        reduction: `mean` over pairs, or `published`: the sum over negatives, the mean over positives.
        relevance, similarity: see `RetrievalLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.05,
        scope: Literal["batch", "query"] = "batch",
        reduction: Literal["mean", "published"] = "mean",
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        for name, value, allowed in (
            ("scope", scope, ("batch", "query")),
            ("reduction", reduction, ("mean", "published")),
        ):
            if value not in allowed:
                raise ContractError(f"unknown {name}", where="MannWhitneyLoss", got=value, expected=", ".join(allowed))
        self.tau, self.scope, self.reduction = tau, scope, reduction

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        similarity, candidates = self.masked(embeddings, labels)
        return mann_whitney(
            similarity / self.tau, candidates.positive, candidates.negative, scope=self.scope, reduction=self.reduction
        )


def mann_whitney(
    scores: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    scope: Literal["batch", "query"] = "batch",
    reduction: Literal["mean", "published"] = "mean",
) -> Tensor:
    """The loss of scores `[B, M]`, already divided by tau; a scalar, 0 without a pair."""
    rows, columns = positive.nonzero(as_tuple=True)
    high = scores[rows, columns]
    total, pairs = scores.sum() * 0, 0
    for start in range(0, len(high), CHUNK):
        part = slice(start, start + CHUNK)
        low, counted = _compared(scores, negative, rows[part], scope)
        gaps = torch.nn.functional.softplus(low - high[part, None])
        total = total + torch.where(counted, gaps, torch.zeros_like(gaps)).sum()
        pairs += int(counted.sum())
    return total / max(1, pairs if reduction == "mean" else len(high))


def _compared(scores: Tensor, negative: Tensor, rows: Tensor, scope: str) -> tuple[Tensor, Tensor]:
    """The scores compared with the positives of these rows, and which of them count."""
    if scope == "query":
        return scores[rows], negative[rows]
    low = scores[negative]
    return low[None].expand(len(rows), -1), torch.ones(len(rows), len(low), dtype=torch.bool, device=scores.device)


class FocalBCELoss(RetrievalLoss):
    """Binary cross-entropy of each pair by itself, the easy ones counting less: for retrieval by a threshold.

    `-(1 - p)^gamma log p` of a positive, `-p^gamma log(1 - p)` of a negative, p = sigmoid(similarity / tau + bias).
    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; in FlashMemory's indexer with gamma 2.

    Requirements: (query, positive, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model, relevance, similarity: see `RetrievalLoss`.
        gamma: 0 is plain cross-entropy.
        tau: temperature.
        bias: where the trained bias starts; `-c / tau` puts the threshold at a similarity of c. It is trained at the
            model's rate, at which it hardly moves for a transformer.
        negatives: how many negatives a positive count, drawn anew for each batch; None takes all.
        seed: of the draws.
    """

    def __init__(
        self,
        model: Any,
        *,
        gamma: float = 2.0,
        tau: float = 0.05,
        bias: float = 0.0,
        negatives: int | None = None,
        seed: int = 0,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        self.gamma, self.tau, self.negatives = gamma, tau, negatives
        self.bias = torch.nn.Parameter(torch.tensor(float(bias)))
        self._draws = SeededDraws(seed)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        similarity, candidates = self.masked(embeddings, labels)
        logits = similarity / self.tau + self.bias
        negative = candidates.negative if self.negatives is None else self._draw(candidates, self.negatives)
        counted = candidates.positive | negative
        losses = focal_bce(logits, candidates.positive, self.gamma)
        rows = torch.where(counted, losses, torch.zeros_like(losses)).sum(1) / counted.sum(1).clamp(min=1)
        return mean_of_rows(rows, counted.any(1))

    def _draw(self, candidates: Candidates, number: int) -> Tensor:
        """`number` negatives for each positive of a row, or as many as it has."""
        draws = torch.rand(candidates.negative.shape, generator=self._draws()).to(candidates.negative.device)
        ranks = draws.masked_fill(~candidates.negative, 2.0).argsort(1).argsort(1)
        return candidates.negative & (ranks < number * candidates.positive.sum(1, keepdim=True))


def focal_bce(logits: Tensor, positive: Tensor, gamma: float) -> Tensor:
    """The loss of each pair, of the shape of `logits`."""
    right = torch.where(positive, logits, -logits)
    return -torch.nn.functional.logsigmoid(right) * torch.sigmoid(-right) ** gamma


class ThresholdEvaluator(HeldOutEvaluator):
    """Beside the search, measures whether one threshold works for all queries. Pooled AUC chooses checkpoints.

    Args:
        inner: the search, an evaluator of sentence-transformers for dense models, of documents that all have text.
        held_out: the judged queries.
    """

    def __init__(self, inner: Any, held_out: TrainingData) -> None:
        super().__init__(inner)
        self.primary_metric, self.held = AUC, held_out

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure: the greatest F1 at one threshold, and that threshold, among them."""
        texts = dict(zip(self.inner.corpus_ids, self.inner.corpus, strict=True))
        source = ModelSource(model, texts, batch_size=self.inner.batch_size)
        searched, pool = self.inner(model, corpus_embeddings=source.vectors), self._pool(source)
        return {**by_metric(searched), AUC: pool.auc, "F1": pool.best.f1, "threshold": pool.best.score}

    def _pool(self, source: ModelSource) -> ScorePool:
        """The scores of each query's relevant documents and of its best others."""
        searched = set(self.inner.corpus_ids)
        relevant_of = {
            query: [name for name in self.held.relevant(query) if name in searched] for query in self.held.qrels
        }
        depth = POOLED + max(map(len, relevant_of.values()))
        results = source.find([self.held.queries[query] for query in relevant_of], list(relevant_of.values()), depth)
        rows: list[tuple[float, bool]] = []
        for result, relevant in zip(results, relevant_of.values(), strict=True):
            others = [score for name, score in result.ranking if name not in relevant][:POOLED]
            rows += [(result.named[name], True) for name in relevant] + [(score, False) for score in others]
        scores, kinds = zip(*rows, strict=True)
        return ScorePool("held out", np.array(scores, np.float64), np.array(kinds, bool))


def threshold_evaluator(evaluator: HeldOutEvaluator | None, held_out: TrainingData) -> ThresholdEvaluator | None:
    """An evaluator of `search_evaluator` that also measures the threshold; None if nothing is held out."""
    return None if evaluator is None else ThresholdEvaluator(evaluator.inner, held_out)
