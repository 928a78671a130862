"""`elastic`: one encoder with exits whose vectors, cut or not, all search the whole encoder's documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import ConfigError, ContractError
from diptych.protocols import TEACHER_FILE
from diptych.training import Registration
from diptych.types import Floats
from diptych_training.losses.base import Features
from diptych_training.losses.distillation import divergence
from diptych_training.models.multi_exit import (
    EMBEDDINGS,
    Exits,
    exit_model,
    exits_of,
    export_exits,
    has_exits,
    multi_exit,
    rotated,
)
from diptych_training.models.trained_module import last_of
from diptych_training.options import AboveZero, Positive, Section
from diptych_training.recipes.common.learned_vectors import LearningVectors, StudentEvaluator, VectorOptions
from diptych_training.running.evaluation import HeldOutEvaluator, by_metric

TURN = "turn"


class ElasticOptions(Section):
    """Exits and widths."""

    layers: tuple[Positive, ...] = Field(
        min_length=1, description="Layers after which the model can exit; those above the deepest are removed."
    )
    widths: tuple[Positive, ...] = Field(
        (), description="Further vector lengths (leading dimensions) to train; empty trains the full one only."
    )
    turn: bool = Field(
        True, description="First rotate the vectors so that the leading dimensions vary most. No effect without widths."
    )


class LossOptions(Section):
    """Options of the loss; see `diptych_training.recipes.elastic.ElasticLoss`."""

    weight: float = Field(1.0, ge=0, description="Weight of the divergence from the teacher's similarities in a batch.")
    invariance: float = Field(1.0, ge=0, description="Weight of the distance of exits' vectors to the deepest one's.")
    tau: AboveZero = Field(0.05, description="Temperature of the divergence.")


class Options(VectorOptions):
    """Options of `elastic`."""

    elastic: ElasticOptions
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with several exits: leave it out"


class Elastic(LearningVectors[Options]):
    """Trains exits and widths of an encoder together, so that all of them search the deepest exit's documents."""

    name: ClassVar[str] = "elastic"

    def model(self) -> Any:
        """The encoder with its exits, its vectors turned."""
        model = self._with_exits()
        return model if self._turn is None else rotated(model, self._turn)

    def check_model(self) -> None:
        """Refuse layers and widths that the model does not have."""
        dimension = last_of(self._with_exits(), Exits, do="").dimension
        if wide := [width for width in self.options.elastic.widths if width > dimension]:
            raise ConfigError(
                "the model's vectors are shorter",
                where="elastic.widths",
                got=", ".join(map(str, wide)),
                expected=f"1 to {dimension}: the model's vectors have {dimension} numbers",
            )

    def _with_exits(self) -> Any:
        return multi_exit(super().model(), self.options.elastic.layers, option="elastic.layers")

    def loss(self, model: Any) -> Any:
        """The distillation of every exit and width."""
        import torch

        vectors = torch.from_numpy(self._as_turned(self.learned_vectors()))
        return ElasticLoss(model, vectors, widths=self.options.elastic.widths, **self.options.loss.model_dump())

    def export(self, model: Any) -> list[Registration]:
        """The deepest exit, which encodes documents, and the others as its students."""
        folders, evaluator = export_exits(model, self.folder.path), self._configurations
        *inner, deepest = folders
        encoders, adapter = Encoders.open(None), self.family.adapter
        widths = [None, *self.options.elastic.widths]
        spaces = [
            encoders.with_options(adapter, {"model": str(folders[deepest]), "truncate_dim": width}).fingerprint
            for width in widths
        ]
        for layer in inner:
            documents = [space.documents or space.space for space in spaces]
            (folders[layer] / TEACHER_FILE).write_text(json.dumps({"documents": documents}), "utf-8")
        self.measured_parts = evaluator.each(model) if evaluator else {}
        students = [
            Registration(adapter, {"model": str(folders[layer])}, f"exit_{layer}", queries=True)
            for layer in reversed(inner)
        ]
        return [Registration(adapter, {"model": str(folders[deepest])}), *students]

    def evaluator(self) -> HeldOutEvaluator | None:
        """The queries of every exit and width over the turned vectors of the teacher."""
        return self._configurations

    @cached_property
    def _configurations(self) -> ExitEvaluator | None:
        plain = super().evaluator()
        if not isinstance(plain, StudentEvaluator):
            return None
        return ExitEvaluator(plain.inner, self.teacher, plain.vectors, self._as_turned, self.options.elastic.widths)

    @cached_property
    def _turn(self) -> Floats | None:
        """The rotation `[D, D]` to the directions in which the teacher's vectors of the texts vary, most first."""
        elastic, turn = self.options.elastic, self.folder.stored_array(TURN)
        if not (elastic.turn and elastic.widths):
            return None
        if turn is None:  # stored: on another machine signs may differ, and would not fit a checkpoint's weights
            _, directions = np.linalg.eigh(np.cov(self.learned_vectors().astype(np.float64), rowvar=False))
            turn = np.ascontiguousarray(directions[:, ::-1].T, np.float32)
            self.folder.store_array(TURN, turn)
        return turn

    def _as_turned(self, vectors: Floats) -> Floats:
        return vectors if self._turn is None else np.asarray(vectors @ self._turn.T, np.float32)


class ExitEvaluator(StudentEvaluator):
    """Every exit's queries at every width over vectors of documents of that width; values are means over all of them.

    Args:
        inner, teacher, vectors: see `StudentEvaluator`.
        turn: how the teacher's vectors become those that are learned.
        widths: beside the whole one.
    """

    def __init__(
        self,
        inner: Any,
        teacher: NamedEncoder,
        vectors: Floats,
        turn: Callable[[Floats], Floats],
        widths: Sequence[int],
    ) -> None:
        super().__init__(inner, teacher, vectors)
        self._turned = turn(vectors)
        self.widths = sorted({*widths, vectors.shape[1]}, reverse=True)

    def measured(self, model: Any) -> dict[str, float]:
        """The means over all exits and widths, by measure; of the model has no exits its own values."""
        if not has_exits(model):
            return super().measured(model)
        values = list(self.each(model).values())
        return {name: float(np.mean([value[name] for value in values])) for name in values[0]}

    def each(self, model: Any) -> dict[str, dict[str, float]]:
        """The values of each exit and width, by name and measure."""
        import torch

        found = {}
        for layer in exits_of(model):
            served = exit_model(model, layer)
            for width in self.widths:
                served.truncate_dim = width
                cut = torch.from_numpy(np.ascontiguousarray(self._turned[:, :width]))
                found[f"exit_{layer}, {width} numbers"] = by_metric(self.inner(served, corpus_embeddings=cut))
        return found


class ElasticLoss(torch.nn.Module):
    """Configuration-invariant distillation of exits and widths, for a model of `multi_exit`.

    With t the teacher's vectors of a batch, v_i those of exit i, v_I of the deepest one, and [:w] the first w numbers
    at length 1, it is the sum of

    - `mean(1 - cos(v_I, t)) + mean(|v_I - t|^2)`, which keeps the deepest exit close to the teacher;
    - the mean over exits and widths of `KL(softmax(t t' / tau) || softmax(v_i[:w] v_I[:w]' / tau))`: what each finds
      among the deepest exit's vectors of the same width is what the teacher finds. Each row's own vector is left out;
    - `invariance` times the mean over the other exits and all widths of `1 - cos(v_i[:w], sg(v_I[:w]))`.

    Args:
        model: of `multi_exit`.
        vectors: the teacher's, float32 `[N, D]`.
        widths: numbers of leading dimensions, D among them or not.
        weight: of the divergence.
        invariance: of the distance to the deepest exit.
        tau: temperature of both distributions; scores are cosines.

    Raises:
        ContractError: the model has no exits, or its vectors are shorter than a width.
    """

    def __init__(
        self,
        model: Any,
        vectors: Tensor,
        *,
        widths: Sequence[int] = (),
        weight: float = 1.0,
        invariance: float = 1.0,
        tau: float = 0.05,
    ) -> None:
        super().__init__()
        self.model, self.weight, self.invariance, self.tau = model, weight, invariance, tau
        self.layers, dimension = exits_of(model), vectors.shape[1]
        if bad := [width for width in widths if not 0 < width <= dimension]:
            raise ContractError("a width is out of range", where="widths", got=bad[0], expected=f"1 to {dimension}")
        self.widths = sorted({*widths, dimension}, reverse=True)
        self.vectors: Tensor
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss of a batch: one column of texts, and in `labels` `[B]` the rows of their vectors."""
        (features,) = sentence_features
        return self.of_vectors(self.model(dict(features))[EMBEDDINGS], self.vectors[labels])

    def of_vectors(self, exits: Sequence[Tensor], teacher: Tensor) -> dict[str, Tensor]:
        """The parts of the loss of each exit's vectors and the teacher's, all `[B, D]`; scalars by name."""
        exits, teacher = [vectors.float() for vectors in exits], _unit(teacher.float())
        whole = exits[-1]
        parts = {"teacher": (1 - (_unit(whole) * teacher).sum(1)).mean() + (whole - teacher).square().sum(1).mean()}
        short = [[_unit(vectors[:, :width]) for vectors in exits] for width in self.widths]
        if self.weight and len(teacher) > 2:
            terms = [divergence(own, level[-1], teacher, tau=self.tau) for level in short for own in level]
            parts["divergence"] = self.weight * torch.stack(terms).mean()
        apart = [1 - (own * level[-1].detach()).sum(1).mean() for level in short for own in level[:-1]]
        if self.invariance and apart:
            parts["invariance"] = self.invariance * torch.stack(apart).mean()
        return parts

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        settings = {"weight": self.weight, "invariance": self.invariance, "tau": self.tau}
        return {"loss": type(self).__name__, "exits": self.layers, "widths": self.widths, **settings}


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)
