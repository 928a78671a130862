"""`student`: a small model learns to make the queries of an encoder whose index stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

from diptych.errors import ConfigError
from diptych.protocols import TEACHER_FILE
from diptych.training import Registration
from diptych_training.losses.distillation import StudentLoss
from diptych_training.models.trained_module import layers_of, truncated
from diptych_training.options import AboveZero, Positive, Section
from diptych_training.recipes.common.learned_vectors import LearningVectors, VectorOptions

COMMON = 1e-3  # share of all tokens at which a token counts half


class StudentOptions(Section):
    """What kind of model the student is."""

    kind: Literal["layers", "static"] = Field(
        "layers", description="layers: the first layers of the model. static: the mean of one vector per token."
    )
    layers: Positive = Field(1, description="With kind layers: how many.")


class LossOptions(Section):
    """Options of the loss; see `diptych_training.losses.distillation.StudentLoss`."""

    weight: float = Field(0.5, ge=0, description="Weight of the divergence from the teacher's similarities in a batch.")
    tau: AboveZero = Field(0.05, description="Temperature of that divergence.")


class Options(VectorOptions):
    """Options of `student`."""

    student: StudentOptions = Field(default_factory=StudentOptions)
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with a student: leave it out"


class Student(LearningVectors[Options]):
    """Trains a dense encoder of queries on another encoder's vectors."""

    name: ClassVar[str] = "student"

    def model(self) -> Any:
        """The student before it is trained."""
        student, model = self.options.student, super().model()
        if student.kind == "layers":
            return first_layers(model, student.layers)
        return static_student(model, self.teacher.encode_query, self.learned_texts())

    def check_model(self) -> None:
        """Refuse a number of layers that the model does not have."""
        if self.options.student.kind == "layers":
            first_layers(super().model(), self.options.student.layers)

    def loss(self, model: Any) -> Any:
        """The student's, of the vectors that the teacher made."""
        import torch

        return StudentLoss(model, torch.from_numpy(self.learned_vectors()), **self.options.loss.model_dump())

    def export(self, model: Any) -> list[Registration]:
        """The student, and for whose index it is."""
        super().export(model)
        fingerprint = self.teacher.fingerprint
        self.folder.write(TEACHER_FILE, {"documents": fingerprint.documents or fingerprint.space})
        adapter = "static" if self.options.student.kind == "static" else self.family.adapter
        return [Registration(adapter, {"model": str(self.folder.path)}, queries=True)]


def first_layers(model: Any, layers: int) -> Any:
    """The model with its first layers only, in place.

    Raises:
        ConfigError: it has no more than that.
    """
    depth = len(layers_of(model[0].auto_model))
    if layers >= depth:
        raise ConfigError(
            "the student is not smaller than the model",
            where="student.layers",
            got=layers,
            expected=f"1 to {depth - 1}: the model has {depth} layers",
        )
    model[0] = truncated(model[0], layers)
    return model


def static_student(model: Any, encode: Callable[[Sequence[str]], Sequence[Any]], texts: Iterable[str]) -> Any:
    """A mean of token vectors, of unit length: each token's is what `encode` makes of the token alone.

    Frequent tokens begin shorter, by the smoothed inverse frequency of Arora, Liang, Ma, "A Simple but Tough-to-Beat
    Baseline for Sentence Embeddings", ICLR 2017.

    Args:
        model: whose tokenizer is used.
        encode: the teacher's encoding of queries.
        texts: whose frequencies count.

    Raises:
        ConfigError: the model has no fast tokenizer.
    """
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        got = type(model.tokenizer).__name__
        raise ConfigError("a static student needs a fast tokenizer", where="model", got=got, do="use kind: layers")
    tokens = [tokenizer.decode([number]) or " " for number in range(tokenizer.get_vocab_size())]
    rows = np.stack([np.asarray(vector, np.float32) for vector in encode(tokens)])
    # A weight for each token, float32 `[size]`.
    read = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    counts = Counter(number for own in read for number in own.ids)
    shares = np.array([counts[number] for number in range(len(tokens))], np.float32) / max(1, counts.total())
    rows = rows * np.asarray(COMMON / (COMMON + shares), np.float32)[:, None]
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=rows), Normalize()], device="cpu")
