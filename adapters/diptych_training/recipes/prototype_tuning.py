"""`prototype_tuning`: a frozen encoder learns classes by a soft prompt and class vectors, from few examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from diptych.errors import ContractError
from diptych.training import Registration
from diptych_training.corpus import TrainingData, held_out
from diptych_training.losses.common.base import Features
from diptych_training.models.prototypes import (
    Prototypes,
    class_numbers,
    classifying_model,
    export_prototypes,
    prompt_of,
    prototype_model,
)
from diptych_training.models.trained_module import last_of
from diptych_training.options import AboveZero, DataOptions, RecipeOptions, Section, TrainingOptions
from diptych_training.recipes.common.base import Training
from diptych_training.recipes.common.negatives import documents_of
from diptych_training.rows import pairs
from diptych_training.running import Fitted
from diptych_training.running.evaluation import HeldOutEvaluator, search_evaluator


class PromptOptions(Section):
    """Options of the soft prompt."""

    tokens: int = Field(6, ge=0, description="Trained tokens before each text; 0 trains the class vectors only.")
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")


class Tuning(TrainingOptions):
    """Training options for few weights and few examples."""

    epochs: AboveZero = Field(25.0, description="Passes over the training rows.")
    learning_rate: AboveZero = Field(1e-2, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")


class Options(RecipeOptions):
    """Options of `prototype_tuning`: queries are texts, documents are classes, qrels say which is which."""

    data: DataOptions
    prompt: PromptOptions = Field(default_factory=PromptOptions)
    training: Tuning = Field(default_factory=Tuning)

    unprompted: ClassVar[str] = "are not for prototype_tuning, which learns its own"
    refused: ClassVar[tuple[str, ...]] = ("training.lora", "training.mini_batch_size", "data.synthetic")

    def holds_out(self) -> bool:
        """Whether any texts are held out."""
        return self.data.dev.holds_out()

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        if self.training.lora is not None or self.training.mini_batch_size is not None:
            raise ValueError("the encoder is frozen: training.lora and training.mini_batch_size do not go with it")
        if self.data.queries is None or self.data.qrels is None or self.data.synthetic is not None:
            raise ValueError("classes are learned from judged texts: give data.queries and data.qrels, not synthetic")
        return self


class PrototypeTuning(Training[Options]):
    """Trains a soft prompt and prototypes."""

    name: ClassVar[str] = "prototype_tuning"

    def judged(self) -> Iterable[TrainingData]:
        """The texts for training and those held out."""
        return self._split

    def model(self) -> Any:
        """The frozen encoder with its prompt; each class begins at the mean of its examples."""
        model: Any = prototype_model(
            super().model(), self.classes, tokens=self.options.prompt.tokens, seed=self.options.seed
        )
        texts, names = self.examples
        vectors = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
        model[-1].start_at(vectors, torch.tensor(class_numbers(names, self.classes)))
        return model

    def fit(self, model: Any) -> Fitted:
        """Train on a row for each text and class of it."""
        import datasets

        texts, names = self.examples
        rows = datasets.Dataset.from_dict({"text": texts, "label": class_numbers(names, self.classes)})
        return self.fitted(model, rows, PrototypeLoss(model, tau=self.options.prompt.tau))

    def export(self, model: Any) -> list[Registration]:
        """One plain model: queries are texts, documents are classes."""
        export_prototypes(model, self.folder.path)
        return [Registration(self.family.adapter, {"model": str(self.folder.path)})]

    def evaluator(self) -> HeldOutEvaluator | None:
        """The evaluator on the held-out texts, among all classes."""
        held, options = self._split[1], self.options
        inner = search_evaluator(held, self.kind, documents=len(held.documents), seed=options.seed)
        return None if inner is None else HeldOutEvaluator(lambda model: inner.inner(classifying_model(model)))

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes: the texts of the documents."""
        return list(dict.fromkeys(text for text in self._split[0].documents.values() if text))

    @cached_property
    def examples(self) -> tuple[list[str], list[str]]:
        """Texts behind their prompt, and the names of their classes."""
        data, prompt = self._split[0], prompt_of(self.options.prompt.tokens)
        examples = [(prompt + data.queries[query], data.documents[name]) for query, name in pairs(data)]
        return [text for text, _ in examples], [name for _, name in examples]

    @cached_property
    def _split(self) -> tuple[TrainingData, TrainingData]:
        options = self.options.data
        return held_out(TrainingData.read(options, documents_of(options)), options, self.options.seed)


class PrototypeLoss(torch.nn.Module):
    """`-log softmax_k(cos(u, p_k) / tau)` at the class of each text, for a model of `prototype_model`.

    The adaptation of Query-as-Anchor (Alipay, 2026); with fixed means for prototypes the head of prototypical networks:
    Snell, Swersky, Zemel, NeurIPS 2017.

    Requirements: one column of texts; labels: the class of each, integers `[B]`.

    Args:
        model: of `prototype_model`.
        tau: temperature.
    """

    def __init__(self, model: Any, *, tau: float = 0.05) -> None:
        super().__init__()
        if tau <= 0:
            raise ContractError("unusable tau", where="PrototypeLoss", got=tau, expected="above 0")
        self.model, self.tau = model, tau

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        embeddings = [self.model({**features})["sentence_embedding"] for features in sentence_features]
        return self.compute_loss_from_embeddings(embeddings, labels)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The same from the texts' vectors `[B, D]`, one column of them."""
        if (
            len(embeddings) != 1
            or labels is None
            or labels.shape != (len(embeddings[0]),)
            or labels.is_floating_point()
        ):
            got = f"{len(embeddings)} columns, labels {'none' if labels is None else list(labels.shape)}"
            raise ContractError(
                "the batch is not texts with classes", where="PrototypeLoss", got=got, expected="texts, one class each"
            )
        tuned: Prototypes = last_of(self.model, Prototypes, do="give the loss a model of prototype_model")
        normal = torch.nn.functional.normalize
        scores = normal(embeddings[0].float(), dim=-1) @ normal(tuned.vectors, dim=-1).T
        return torch.nn.functional.cross_entropy(scores / self.tau, labels.to(scores.device))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {"tau": self.tau}
