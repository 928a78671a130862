"""`cmim`: adapts a dense encoder to a corpus without queries, by restoring texts from their vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych.training import Registration
from diptych_training.corpus import TrainingData
from diptych_training.losses.base import Features
from diptych_training.losses.contrastive import contrastive
from diptych_training.options import AboveZero, JudgedOptions, Positive, RecipeOptions, Section
from diptych_training.recipes.base import Training
from diptych_training.recipes.negatives import documents_of
from diptych_training.running.run import HeldOutEvaluator, search_evaluator
from diptych_training.trained_module import TrainedModule, assembled, last_of, parts_of, saved


class Decoder(TrainedModule):
    """The spread of a text's code around its vector, and a decoder from codes to words.

    Args:
        width: of the code, which is that of the encoder's word vectors too.
        layers, heads: of the decoder.
        max_length: tokens that are read back at most.
        sigma_floor: the least standard deviation of a code: `log q(z|x)` has no upper bound without it.
    """

    config_keys: list[str] = ["width", "layers", "heads", "max_length", "sigma_floor"]  # noqa: RUF012  # as sentence-transformers declares it

    def __init__(
        self, width: int, *, layers: int = 1, heads: int = 4, max_length: int = 128, sigma_floor: float = 1e-2
    ) -> None:
        super().__init__()
        if sigma_floor <= 0 or width % heads:
            got = f"sigma_floor {sigma_floor}, {heads} heads of width {width}"
            raise ContractError(
                "unusable decoder", where="Decoder", got=got, expected="a floor above 0, heads that fit"
            )
        self.width, self.layers, self.heads = width, layers, heads
        self.max_length, self.sigma_floor = max_length, sigma_floor
        self.spread = nn.Linear(width, width)
        self.places = nn.Embedding(max_length, width)
        self.start = nn.Parameter(torch.zeros(width))
        block = nn.TransformerDecoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerDecoder(block, layers, norm=nn.LayerNorm(width))
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features as they are: vectors of texts are the means of their codes."""
        return features

    def sigma(self, mean: Tensor) -> Tensor:
        """The standard deviations `[B, width]` of the codes of texts with these vectors, above the floor."""
        return self.sigma_floor + nn.functional.softplus(self.spread(mean))

    def states(self, code: Tensor, ids: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """The last states `[B, T, width]`, each from the code and the words before its own (teacher forcing).

        Args:
            code: `[B, width]`.
            ids, mask: of the text, `[B, T]`, T at most `max_length`.
            words: vectors of the vocabulary `[V, width]`.
        """
        previous = nn.functional.embedding(ids[:, :-1], words)
        start = self.start.expand(len(ids), 1, self.width)
        inputs = torch.cat([start, previous], 1) + self.places.weight[: ids.shape[1]] + code[:, None]
        future = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
        padding = torch.cat([torch.zeros_like(mask[:, :1]), 1 - mask[:, :-1]], 1).bool()
        states: Tensor = self.blocks(
            inputs, code[:, None], tgt_mask=future, tgt_key_padding_mask=padding, tgt_is_causal=True
        )
        return states

    def log_likelihood(self, code: Tensor, ids: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """`log p(x | z)` `[B]`, the sum over the words of each text; arguments as of `states`."""
        logits = (self.states(code, ids, mask, words) @ words.T).float()
        log_probabilities = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        return (log_probabilities * mask).sum(1)

    def get_embedding_dimension(self) -> int:
        """The width of the code."""
        return self.width


def with_decoder(
    model: SentenceTransformer, *, layers: int = 1, heads: int = 4, sigma_floor: float = 1e-2
) -> SentenceTransformer:
    """The model with a decoder, to be trained by `CMIMLoss`; it shares the given one's weights.

    Args:
        model: Transformer, Pooling, perhaps Normalize, which is left out: codes have a length.
        layers, heads, sigma_floor: see `Decoder`.

    Raises:
        ContractError: a model of other parts, or one whose vectors and word vectors differ in width.
    """
    parts = parts_of(model, where="with_decoder", allowed=("Pooling", "Normalize"))
    width, words = int(model.get_embedding_dimension() or 0), words_of(model)
    if words.shape[1] != width:
        got = f"vectors of {width}, words of {words.shape[1]}"
        raise ContractError("vectors and word vectors differ in width", where="with_decoder", got=got)
    length = int(model.max_seq_length or 512)
    decoder = Decoder(width, layers=layers, heads=heads, max_length=length, sigma_floor=sigma_floor)
    modules = [part for part in parts if not isinstance(part, Normalize)]
    return assembled(model, [*modules, decoder], similarity="cosine")


def encoder_of(model: SentenceTransformer) -> SentenceTransformer:
    """The plain encoder with vectors of unit length, without the decoder."""
    last_of(model, Decoder, do="make it by with_decoder")
    return assembled(model, [*list(model.children())[:-1], Normalize()])


def words_of(model: Any) -> Tensor:
    """The word vectors of the model's transformer, `[V, width]`."""
    words: Tensor = next(model.children()).auto_model.get_input_embeddings().weight
    return words


class TextsOptions(JudgedOptions):
    """The documents to learn from. Judged queries, if any, choose the checkpoint and measure it."""

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

    def rows(self) -> Any:
        """A row for each document."""
        import datasets

        return datasets.Dataset.from_dict({"text": [text for text in self.data.documents.values() if text]})

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
    """

    def __init__(
        self, model: Any, *, tau: float = 0.1, contrastive_weight: float = 1.0, mim_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.model, self.tau = model, tau
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
        averaged = scores - math.log(max(len(scores) - 1, 1))  # the mean over the other texts in place of their sum
        return contrastive(torch.where(diagonal, scores, averaged), diagonal, ~diagonal)


def log_normal(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """The log density `[B]` of values `[B, D]` under a Gaussian with these means and standard deviations."""
    squares = ((value - mean) / sigma) ** 2
    return -(squares + 2 * sigma.log() + math.log(2 * math.pi)).sum(-1) / 2
