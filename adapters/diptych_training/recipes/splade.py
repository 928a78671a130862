"""`splade`: a lexicon of term weights, trained contrastively, kept sparse by FLOPS.

Formal et al., "SPLADE v2" and "From Distillation to Hard Negative Sampling", 2021 and 2022.
See docs/research/methods/splade.md.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback

from diptych.protocols import Kind
from diptych.training import Registration
from diptych_training.lexicon import (
    ActiveTerms,
    NonNegative,
    SparseLoss,
    blockwise,
    inverse_frequencies,
    lexicon,
    static_weights,
)
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.running import Fitted
from diptych_training.running.families import routes_of

Weight = Annotated[float, Field(ge=0)]
Ramp = Annotated[float, Field(gt=0, le=1)]


class LossOptions(Section):
    """The contrastive loss, by dot products."""

    tau: AboveZero = Field(1.0, description="Temperature: dot products are divided by it.")


class SparsityOptions(Section):
    """FLOPS: the square of a term's mean weight, over all terms; more of it, fewer terms."""

    query: Weight = Field(0.1, description="Weight of the queries' FLOPS penalty.")
    document: Weight = Field(0.08, description="Weight of the documents' FLOPS penalty.")
    ramp: Ramp = Field(0.3, description="Share of the steps in which the weights rise, by the square of the steps.")


class Options(RetrievalOptions):
    """Options of `splade`."""

    queries: Literal["encoder", "bag", "static"] = Field(
        "encoder",
        description="How to encode queries: like documents; as their tokens, each with weight 1; or as their tokens "
        "with trained weights. The last two need no network.",
    )
    loss: LossOptions = Field(default_factory=LossOptions)
    sparsity: SparsityOptions = Field(default_factory=SparsityOptions)

    whole: ClassVar[str] = "does not go with FLOPS of a batch: leave it out, and make batch_size smaller"


class Splade(RetrievalTraining[Options]):
    """Trains a lexicon."""

    name: ClassVar[str] = "splade"
    kind: ClassVar[Kind] = "sparse"

    def model(self) -> Any:
        """The lexicon; static queries start from how rare each token is in the documents."""
        base, queries = super().model(), self.options.queries
        documents = self._judged[0].documents  # `data` may still have to ask this model for queries
        texts = (text for text in documents.values() if text)
        new = queries == "static" and not routes_of(base, ["query"])
        return lexicon(base, queries=queries, idf=inverse_frequencies(texts, base.tokenizer) if new else None)

    def fit(self, model: Any) -> Fitted:
        """Train on the rows, with the ramp of both penalties."""
        rows, loss = self.rows(), self.loss(model)
        ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=self.options.sparsity.ramp)
        callbacks = [ramp, ActiveTerms(loss), NonNegative(*static_weights(model))]
        with blockwise(model):
            return self.fitted(model, rows, loss, more_callbacks=callbacks)

    def loss(self, model: Any) -> Any:
        """The contrastive loss and both penalties."""
        sparsity = self.options.sparsity
        tau, relevance = self.options.loss.tau, self.data.relevance()
        main = ContrastiveLoss(model, tau=tau, similarity="dot", relevance=relevance)
        return SparseLoss(model, main, query_weight=sparsity.query, document_weight=sparsity.document)

    def export(self, model: Any) -> list[Registration]:
        """Save it; a model with a separate query side is served by the adapter of such models."""
        (saved,) = super().export(model)
        masked = {"trained_as": "masked-lm", **saved.options}
        return [saved if routes_of(model, ["query"]) else Registration(saved.adapter, masked)]
