"""`unidec`: a dual encoder and a classifier over the documents, trained together and served as one vector.

Source: Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label Classification",
WWW 2025; see docs/research/methods/unidec.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from diptych.training import Registration
from diptych_training.losses import PSLLoss
from diptych_training.models.unidec import HEADS, TABLE, added_to, export, with_classifier
from diptych_training.options import AboveZero, Positive, Section, Share
from diptych_training.recipes.dexml import Pooling, PoolingOptions, PoolOptions


class LossOptions(Section):
    """Losses of both heads; see `diptych_training.losses.listwise`."""

    gone: ClassVar[Mapping[str, str]] = dict.fromkeys(("reduction", "symmetric"), "no effect was measured")

    tau: AboveZero = Field(1 / 18, description="Temperature: similarities are divided by it.")
    dropout: Share = Field(0.1, description="Dropout of embeddings and classifier vectors, 0 to 1.")


class ClassifierOptions(Section):
    """The second head, and a vector of each document."""

    gone: ClassVar[Mapping[str, str]] = {"similarity": "no effect was measured"}

    weight: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Weight of the classifier's loss, 0 to 1.")
    dimension: Positive | None = Field(None, description="Dimension of its embeddings; null is the dual encoder's.")
    learning_rate: AboveZero = Field(
        1e-3, description="Learning rate of the documents' vectors; both heads have twice that of training."
    )


class Options(PoolingOptions):
    """Options of `unidec`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    classifier: ClassifierOptions = Field(default_factory=ClassifierOptions)
    pool: PoolOptions = Field(default_factory=PoolOptions)

    whole: ClassVar[str] = "is not for unidec: make pool.size smaller instead"


class UniDec(Pooling[Options]):
    """Trains both heads."""

    name: ClassVar[str] = "unidec"

    @property
    def pooling(self) -> PoolOptions:  # type: ignore[override]
        """The pool."""
        return self.options.pool

    def model(self) -> Any:
        """The encoder with both heads and a table for all documents."""
        documents = self._judged[0].documents  # `data` may still have to ask this model for queries
        return with_classifier(super().model(), len(documents), classifier_dimension=self.options.classifier.dimension)

    def loss(self, model: Any) -> Any:
        """Over both heads."""
        options, classifier = self.options.loss, self.options.classifier
        return PSLLoss(
            model,
            relevance=self.pool.relevance,
            weight=1 - classifier.weight,
            tau=options.tau,
            dropout=options.dropout,
        )

    def new(self, model: Any) -> list[Any]:
        """The table and both heads."""
        return added_to(model)

    def changes(self) -> dict[str, Any]:
        """Learning rates of heads and table."""
        rate = self.options.training.learning_rate
        return {"learning_rate_mapping": {HEADS: 2 * rate, TABLE: self.options.classifier.learning_rate}}

    def export(self, model: Any) -> list[Registration]:
        """One folder: both heads as one vector, and each alone."""
        trained = {int(document) for positives in self.pool.positives.values() for document in positives}
        export(model, list(self.data.documents.values()), self.folder.path, known=trained)
        if len(trained) < len(self.data.documents):
            untrained = len(self.data.documents) - len(trained)
            self.remarks.append(f"{untrained:,} documents that no query asked for have no vector of the classifier")
        model_options = {"model": str(self.folder.path)}
        return [
            Registration("unidec", model_options),
            Registration("sentence-transformers", model_options, "de"),
            Registration("unidec", {**model_options, "head": "classifier"}, "clf"),
        ]
