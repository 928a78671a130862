"""One encoder with exits after several of its layers, each with a head of its own.

ModularStarEncoder: Gurioli et al., "One Model to Train them All: Hierarchical Self-Distillation for Enhanced Early
Layer Embeddings", 2025. While it trains, the model is [Transformer, Exits]; `export_exits` writes one plain folder an
exit, with no layers above it. Vectors of different exits are of different spaces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych_training.models.trained_module import (
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
        if self.layers != sorted(set(layers)) or not self.layers:
            raise ContractError(
                "unusable exits", where="Exits", got=self.layers, expected="ascending numbers of layers"
            )
        self.head = nn.ModuleDict({str(n): _head(self.dimension) for n in self.layers})
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
    """The plain model of one exit, with copies of its layers: Transformer, Pooling, perhaps Dense, perhaps Normalize.

    Raises:
        ContractError: no such exit.
    """
    exits: Exits = last_of(model, Exits, do="make it by multi_exit")
    if layer not in exits.layers:
        raise ContractError("no such exit", where="exits", got=layer, expected=", ".join(map(str, exits.layers)))
    norm = dict(exits.norm.items()).get(str(layer))
    return assembled(model, [truncated(next(model.children()), layer, norm), *exits.steps(layer)])


def has_exits(model: Any) -> bool:
    """Whether the model is one of `multi_exit`, in training."""
    return isinstance(model, SentenceTransformer) and isinstance(list(model.children())[-1], Exits)


def rotated(model: SentenceTransformer, rotation: Any) -> SentenceTransformer:
    """The model with every head's vectors turned, in place; angles between vectors stay.

    Args:
        model: of `multi_exit`.
        rotation: an orthogonal matrix, float32 `[D, D]`.
    """
    exits: Exits = last_of(model, Exits, do="make it by multi_exit")
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
    exits: Exits = last_of(model, Exits, do="make it by multi_exit")
    folders = {n: folder if n == exits.layers[-1] else folder / f"exit_{n}" for n in exits.layers}
    for layer, path in folders.items():
        saved(exit_model(model, layer), path)
    entries = [
        {"layers": n, "folder": str(path.relative_to(folder)), "dimension": exits.dimension}
        for n, path in folders.items()
    ]
    (folder / "exits.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    return folders


def _head(width: int) -> Any:
    """A linear head, initialised as the identity."""
    same, zero = torch.eye(width), torch.zeros(width)
    return Dense(width, width, activation_function=None, init_weight=same, init_bias=zero)


def _check_cuts(model: SentenceTransformer) -> None:
    """Raise ContractError if a truncated model would not answer like the whole one at that exit."""
    training, features = model.training, batch_to_device(model.preprocess(["which layers answer alike"]), model.device)
    model.eval()
    with torch.no_grad():
        expected = model({**features})[EMBEDDINGS]
        for layer, vectors in zip(last_of(model, Exits, do="").layers, expected, strict=True):
            vectors_of_cut = exit_model(model, layer)({**features})["sentence_embedding"]
            if not torch.allclose(vectors_of_cut, vectors, atol=1e-4):
                gap = float((vectors_of_cut - vectors).abs().max())
                raise ContractError(
                    "the model cannot exit at this layer", where=f"layer {layer}", got=f"{gap:.2g} apart"
                )
    model.train(training)


def exits_of(model: Any) -> list[int]:
    """The layers after which a model has exits.

    Raises:
        ContractError: it has none.
    """
    last = list(model.children())[-1] if list(model.children()) else None
    layers = getattr(last, "layers", None)
    if not isinstance(layers, list):
        do = "give the loss a model of diptych_training.models.multi_exit.multi_exit(model, layers)"
        raise ContractError("the model has no exits", where="exits_of", got=type(last).__name__, do=do)
    return layers
