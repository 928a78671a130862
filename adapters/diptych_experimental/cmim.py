"""`cmim`: adapts a dense encoder to a corpus without queries, by restoring texts from their vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from diptych.errors import ContractError
from diptych.training import Registration, RelativePath
from diptych_experimental.information import Decoder, encoder_of, with_decoder, words_of
from diptych_training.corpus import TrainingData
from diptych_training.losses.common.base import Features
from diptych_training.losses.contrastive import contrastive
from diptych_training.models.trained_module import last_of, saved
from diptych_training.options import AboveZero, DocumentsOptions, Positive, RecipeOptions, Section
from diptych_training.recipes.common.base import Training
from diptych_training.recipes.common.negatives import documents_of
from diptych_training.running import Fitted
from diptych_training.running.evaluation import HeldOutEvaluator, search_evaluator


class TextsOptions(DocumentsOptions):
    """The documents to learn from. Judged queries, if any, choose the checkpoint and measure it."""

    queries: RelativePath | None = Field(None, description="Judged queries to evaluate with: queries.jsonl(.gz).")
    qrels: RelativePath | None = Field(None, description="Judgements of these queries, BEIR or TREC.")
    documents: Positive = Field(20_000, description="Maximum number of documents searched per evaluation.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("queries and qrels go together: give both or none")
        return self


class InformationOptions(Section):
    """Options of decoder and loss."""

    layers: Positive = Field(1, description="Layers of the decoder, which is discarded after training.")
    heads: Positive = Field(4, description="Attention heads of the decoder.")
    sigma_floor: AboveZero = Field(1e-2, description="Minimum standard deviation of a code.")
    tau: AboveZero = Field(0.1, description="Temperature of the contrastive term.")
    contrastive_weight: float = Field(1.0, ge=0, description="Weight of the contrastive term; 0 is A-MIM.")
    mim_weight: float = Field(1.0, ge=0, description="Weight of the other terms; 0 keeps the contrastive term only.")


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


class CMIMLoss(torch.nn.Module):
    """`-E[log p(x|z) + (log q(z|x) + log P(z)) / 2] - E[log p(k=1|x, z)]` for a model of `with_decoder`.

    z is drawn from q(z|x), Gaussian around the text's vector, P(z) is the standard normal. k says that z came from x:
    its probability sets the cosine of z and x's vector against the mean (not the sum) over the other texts of the
    batch, so that it does not depend on the batch's size. The noise of z is the augmentation; no text is cut.

    Livne, Swersky, Fleet 2019 (MIM); Livne 2025 (cMIM). The contrastive factor is our reading of the latter.

    Requirements: one column of texts; no labels.

    Args:
        model: of `with_decoder`.
        tau: temperature of the contrastive factor.
        contrastive_weight: of it; 0 is A-MIM.
        mim_weight: of the rest; 0 leaves the contrastive factor alone.
        denominator: `mean` over the other texts; `sum` makes it InfoNCE.
    """

    def __init__(
        self,
        model: Any,
        *,
        tau: float = 0.1,
        contrastive_weight: float = 1.0,
        mim_weight: float = 1.0,
        denominator: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if tau <= 0 or denominator not in ("mean", "sum"):
            got, expected = f"tau {tau}, denominator {denominator}", "tau above 0; mean or sum"
            raise ContractError("unusable options", where="CMIMLoss", got=got, expected=expected)
        self.model, self.tau, self.denominator = model, tau, denominator
        self.contrastive_weight, self.mim_weight = contrastive_weight, mim_weight

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of the loss, `reconstruction`, `code` and `contrastive`; their sum is what is trained."""
        (features,) = sentence_features
        mean = self.model({**features})["sentence_embedding"].float()
        return self.compute_losses_from_means(mean, features["input_ids"], features["attention_mask"])

    def compute_losses_from_means(self, mean: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The same from the vectors `[B, D]` of texts `[B, T]`."""
        decoder: Decoder = last_of(self.model, Decoder, do="give the loss a model of with_decoder")
        sigma = decoder.sigma(mean)
        code = mean + sigma * torch.randn_like(mean)
        losses = {"contrastive": self.contrastive_weight * self.factor(code, mean)}
        if self.mim_weight:
            likelihood = decoder.log_likelihood(code, ids, mask, words_of(self.model))
            codes = (
                log_normal(code, mean, sigma) + log_normal(code, torch.zeros_like(mean), torch.ones_like(mean))
            ) / 2
            losses |= {"reconstruction": -self.mim_weight * likelihood.mean(), "code": -self.mim_weight * codes.mean()}
        return losses

    def factor(self, code: Tensor, mean: Tensor) -> Tensor:
        """`-log p(k=1|x, z)`, the mean over the batch; ln 2 if all are equally similar, whatever the batch size."""
        normal = torch.nn.functional.normalize
        scores = normal(code, dim=-1) @ normal(mean, dim=-1).T / self.tau
        diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        return contrastive(scores, diagonal, ~diagonal, denominator=self.denominator)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {
            "tau": self.tau,
            "contrastive_weight": self.contrastive_weight,
            "mim_weight": self.mim_weight,
            "denominator": self.denominator,
        }


def log_normal(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """The log density `[B]` of values `[B, D]` under a Gaussian with these means and standard deviations."""
    squares = ((value - mean) / sigma) ** 2
    return -(squares + 2 * sigma.log() + math.log(2 * math.pi)).sum(-1) / 2
