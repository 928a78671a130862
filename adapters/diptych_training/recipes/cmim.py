"""`cmim`: adapts a dense encoder to a corpus without queries, by restoring texts from their vectors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from diptych.training import Registration, RelativePath
from diptych_training.corpus import TrainingData
from diptych_training.losses.mutual_information import CMIMLoss
from diptych_training.models.information import encoder_of, with_decoder
from diptych_training.models.trained_module import saved
from diptych_training.options import AboveZero, DocumentsOptions, Positive, RecipeOptions, Section
from diptych_training.recipes.common.base import Training
from diptych_training.recipes.common.negatives import documents_of
from diptych_training.running import Fitted
from diptych_training.running.evaluation import HeldOutEvaluator, search_evaluator


class TextsOptions(DocumentsOptions):
    """The documents to learn from. Judged queries, if any, choose the checkpoint and measure it."""

    queries: RelativePath | None = Field(None, description="Judged queries to measure with: queries.jsonl(.gz).")
    qrels: RelativePath | None = Field(None, description="Their judgements, BEIR or TREC.")
    documents: Positive = Field(20_000, description="Documents searched at each evaluation, at most.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("queries and qrels go together: give both or none")
        return self


class InformationOptions(Section):
    """Options of decoder and loss."""

    layers: Positive = Field(1, description="Of the decoder, which is discarded afterwards.")
    heads: Positive = Field(4, description="Of its attention.")
    sigma_floor: AboveZero = Field(1e-2, description="Least standard deviation of a code.")
    tau: AboveZero = Field(0.1, description="Temperature of the contrastive factor.")
    contrastive_weight: float = Field(1.0, ge=0, description="Of it; 0 is A-MIM.")
    mim_weight: float = Field(1.0, ge=0, description="Of the rest; 0 leaves the contrastive factor alone.")


class Options(RecipeOptions):
    """Options of `cmim`."""

    data: TextsOptions
    information: InformationOptions = Field(default_factory=InformationOptions)

    whole: ClassVar[str] = "does not go with a decoder: leave it out"

    def holds_out(self) -> bool:
        """Whether there are judged queries."""
        return self.data.qrels is not None


class CMIM(Training[Options]):
    """Trains a dense encoder on texts alone."""

    name: ClassVar[str] = "cmim"

    def judged(self) -> Iterable[TrainingData]:
        """The judged queries to measure with."""
        return (self.data,)

    def model(self) -> Any:
        """The encoder with a decoder."""
        options = self.options.information
        return with_decoder(
            super().model(), layers=options.layers, heads=options.heads, sigma_floor=options.sigma_floor
        )

    def fit(self, model: Any) -> Fitted:
        """Train on a row for each document."""
        import datasets

        texts = [text for text in self.data.documents.values() if text]
        return self.fitted(model, datasets.Dataset.from_dict({"text": texts}), self.loss(model))

    def loss(self, model: Any) -> CMIMLoss:
        """The loss of the mutual information machine, with its contrastive factor."""
        options = self.options.information
        return CMIMLoss(
            model, tau=options.tau, contrastive_weight=options.contrastive_weight, mim_weight=options.mim_weight
        )

    def export(self, model: Any) -> list[Registration]:
        """The encoder without the decoder."""
        saved(encoder_of(model), self.folder.path)
        return [Registration(self.family.adapter, {"model": str(self.folder.path)})]

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator on the judged queries, if there are any."""
        return search_evaluator(self.data, self.kind, documents=self.options.data.documents, seed=self.options.seed)

    @cached_property
    def data(self) -> TrainingData:
        """The documents, and the judged queries to measure with."""
        return TrainingData.read(self.options.data, documents_of(self.options.data))
