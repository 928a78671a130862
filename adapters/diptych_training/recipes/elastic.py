"""`elastic`: one encoder with exits whose vectors, cut or not, all search the whole encoder's documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import ConfigError, ContractError
from diptych.protocols import TEACHER_FILE
from diptych.training import Registration
from diptych.types import Floats
from diptych_training.losses.base import Features
from diptych_training.losses.distillation import divergence
from diptych_training.options import AboveZero, Positive, Section
from diptych_training.recipes.student import LearningVectors, StudentEvaluator, VectorOptions
from diptych_training.running.run import by_metric
from diptych_training.trained_module import (
    TrainedModule,
    assembled,
    existing_layers,
    final_norm,
    last_of,
    layers_of,
    parts_of,
    saved,
    states_of,
    truncated,
)

EMBEDDINGS = "exit_embeddings"

TURN = "turn"


class ExitsOptions(Section):
    """The layers with exits."""

    layers: tuple[Positive, ...] = Field(
        min_length=1, description="Layers after which the model can exit; those above the deepest are removed."
    )


class ElasticOptions(ExitsOptions):
    """Exits and widths."""

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
        dimension = exits_of(self._with_exits()).dimension
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
        vectors = torch.from_numpy(self._as_turned(self.learned_vectors()))
        return ElasticLoss(model, vectors, widths=self.options.elastic.widths, **self.options.loss.model_dump())

    def export(self, model: Any) -> list[Registration]:
        """The deepest exit, which encodes documents, and the others as its students."""
        folders, evaluator = export_exits(model, self.folder.path), self.evaluator()
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

    def evaluator(self) -> ExitEvaluator | None:
        """The queries of every exit and width over the turned vectors of the teacher."""
        plain = super().evaluator()
        if plain is None:
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
        """The means over all exits and widths, by measure."""
        values = list(self.each(model).values())
        return {name: float(np.mean([value[name] for value in values])) for name in values[0]}

    def each(self, model: Any) -> dict[str, dict[str, float]]:
        """The values of each exit and width, by name and measure."""
        found = {}
        for layer in exits_of(model).layers:
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
        self.widths = sorted({*widths, vectors.shape[1]}, reverse=True)
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


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


class Exits(TrainedModule):
    """Embeddings of several layers' states: final norm where the network has one, pooling, head, unit length.

    It adds `exit_embeddings`, a list of `[B, dimension]`, and takes the deepest one as `sentence_embedding`.

    Args:
        layers: the exits, ascending numbers of layers.
        width: of the states.
        pooling: mode of sentence-transformers' Pooling.
        include_prompt: whether a prompt's tokens are pooled.
        normalize: make embeddings unit length.
        norm_eps: of the final norm that exits below the last have their own copies of; None for none.
        norm_bias: whether that has a bias.
    """

    config_keys: list[str] = [  # noqa: RUF012  # as sentence-transformers declares it
        "layers",
        "width",
        "pooling",
        "include_prompt",
        "normalize",
        "norm_eps",
        "norm_bias",
    ]

    def __init__(
        self,
        layers: Sequence[int],
        width: int,
        *,
        pooling: Any = "mean",
        include_prompt: bool = True,
        normalize: bool = True,
        norm_eps: float | None = None,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.layers, self.width, self.pooling = list(layers), width, pooling
        self.include_prompt, self.normalize = include_prompt, normalize
        self.norm_eps, self.norm_bias = norm_eps, norm_bias
        self.pool = Pooling(width, pooling_mode=pooling, include_prompt=include_prompt)
        self.dimension = int(self.pool.get_embedding_dimension())
        d, heads = self.dimension, dict[str, nn.Module]()
        for n in self.layers:  # each begins as the identity, with tensors of its own
            heads[str(n)] = Dense(d, d, activation_function=None, init_weight=torch.eye(d), init_bias=torch.zeros(d))
        self.head = nn.ModuleDict(heads)
        inner = [] if norm_eps is None else self.layers[:-1]
        self.norm = nn.ModuleDict({str(n): nn.LayerNorm(width, eps=norm_eps or 0.0, bias=norm_bias) for n in inner})

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features with the embeddings of each exit."""
        states = states_of(features)
        features[EMBEDDINGS] = [self.embedding(features, states[n], n) for n in self.layers]
        features["sentence_embedding"] = features[EMBEDDINGS][-1]
        return features

    def embedding(self, features: dict[str, Any], states: Tensor, layer: int) -> Tensor:
        """The embeddings `[B, dimension]` of the states `[B, T, width]` after a layer."""
        normed = self.norm[str(layer)](states) if str(layer) in self.norm else states
        state = {**features, "token_embeddings": normed}
        for step in self.steps(layer):
            state = step(state)
        vectors: Tensor = state["sentence_embedding"]
        return vectors

    def steps(self, layer: int) -> list[nn.Module]:
        """What follows the transformer at an exit, as modules of sentence-transformers."""
        return [self.pool, self.head[str(layer)], *([Normalize()] if self.normalize else [])]

    def get_embedding_dimension(self) -> int:
        """The width of the embeddings."""
        return self.dimension


def multi_exit(model: SentenceTransformer, layers: Sequence[int], *, option: str = "layers") -> SentenceTransformer:
    """The model with exits after these layers; it shares the given one's weights.

    Args:
        model: Transformer, Pooling, perhaps Normalize.
        layers: numbers from 1 to the model's depth; the deepest of them is what the model itself answers.
        option: that gave the layers, for the error.

    Raises:
        ConfigError: layers that the model does not have.
        ContractError: a model of other parts, or one that cannot be cut there.
    """
    parts = parts_of(model, where="multi_exit", allowed=("Pooling", "Normalize"))
    transformer: Any = parts[0]
    network, pool = transformer.auto_model, next(part for part in parts if isinstance(part, Pooling))
    exit_layers = existing_layers(network, layers, option)
    depth = len(layers_of(network))
    if exit_layers[-1] < depth:
        transformer = truncated(transformer, exit_layers[-1])
        network = transformer.auto_model
    place = final_norm(network)
    norm: Any = getattr(*place) if place else None
    exits = Exits(
        exit_layers,
        int(transformer.get_embedding_dimension()),
        pooling=pool.pooling_mode,
        include_prompt=pool.include_prompt,
        normalize=isinstance(parts[-1], Normalize),
        norm_eps=norm.eps if norm else None,
        norm_bias=norm is not None and norm.bias is not None,
    )
    for copied in exits.norm.values():
        copied.load_state_dict(norm.state_dict())
    network.config.output_hidden_states = True
    model_with_exits = assembled(model, [transformer, exits])
    _check_cuts(model_with_exits)
    return model_with_exits


def exit_model(model: SentenceTransformer, layer: int) -> SentenceTransformer:
    """The plain model of one exit, with copies of its layers: Transformer, Pooling, Dense, perhaps Normalize."""
    exits = exits_of(model)
    norm = dict(exits.norm.items()).get(str(layer))
    return assembled(model, [truncated(next(model.children()), layer, norm), *exits.steps(layer)])


def exits_of(model: Any) -> Exits:
    """The exits of a model in training.

    Raises:
        ContractError: it has none.
    """
    exits: Exits = last_of(model, Exits, do="make it by multi_exit")
    return exits


def rotated(model: SentenceTransformer, rotation: Any) -> SentenceTransformer:
    """The model with every head's vectors turned, in place; angles between vectors stay.

    Args:
        model: of `multi_exit`.
        rotation: an orthogonal matrix, float32 `[D, D]`.
    """
    exits = exits_of(model)
    matrix = torch.as_tensor(rotation, device=model.device)
    with torch.no_grad():
        for head in exits.head.values():
            linear: Any = head.linear
            linear.weight.copy_(matrix @ linear.weight)
            linear.bias.copy_(matrix @ linear.bias)
    return model


def export_exits(model: SentenceTransformer, folder: Path) -> dict[int, Path]:
    """A folder of sentence-transformers for each exit, `exit_N` below the given one, and `exits.json` that lists them.

    The deepest exit is the model itself and comes into the folder.

    Args:
        model: of `multi_exit`, trained.
        folder: where they come.

    Returns:
        The folder of each exit, by its number of layers.
    """
    exits = exits_of(model)
    folders = {n: folder if n == exits.layers[-1] else folder / f"exit_{n}" for n in exits.layers}
    for layer, path in folders.items():
        saved(exit_model(model, layer), path)
    entries = [
        {"layers": n, "folder": str(path.relative_to(folder)), "dimension": exits.dimension}
        for n, path in folders.items()
    ]
    (folder / "exits.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    return folders


def _check_cuts(model: SentenceTransformer) -> None:
    """Raise ContractError if a truncated model would not answer like the whole one at that exit."""
    training, features = model.training, batch_to_device(model.preprocess(["which layers answer alike"]), model.device)
    model.eval()
    with torch.no_grad():
        expected = model({**features})[EMBEDDINGS]
        for layer, vectors in zip(exits_of(model).layers, expected, strict=True):
            vectors_of_cut = exit_model(model, layer)({**features})["sentence_embedding"]
            if not torch.allclose(vectors_of_cut, vectors, atol=1e-4):
                gap = float((vectors_of_cut - vectors).abs().max())
                raise ContractError(
                    "the model cannot exit at this layer", where=f"layer {layer}", got=f"{gap:.2g} apart"
                )
    model.train(training)
