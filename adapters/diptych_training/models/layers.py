"""The layers of a transformers network: finds them, and copies the model with fewer of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from diptych.errors import ConfigError, ContractError

FINAL_NORMS = ("final_norm", "norm", "final_layer_norm", "ln_f")  # of networks that normalise after their last layer


def layers_of(network: Any) -> nn.ModuleList:
    """The list of the network's layers, in order.

    Raises:
        ContractError: it has none of that length, such as one that uses a layer several times.
    """
    depth = getattr(network.config, "num_hidden_layers", None)
    lists = [part for part in network.modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if not lists:
        kind = type(network).__name__
        raise ContractError("the network has no list of layers", where=kind, got=depth, expected="one module per layer")
    return lists[0]


def existing_layers(network: Any, numbers: Sequence[int], option: str) -> list[int]:
    """The numbers of layers, ascending, each once.

    Args:
        network: of transformers.
        numbers: counted from 1.
        option: that gave them, for the error.

    Raises:
        ConfigError: the network does not have one of them, or none is given.
    """
    depth, given = len(layers_of(network)), sorted(set(numbers))
    missing = [number for number in given if not 1 <= number <= depth]
    if missing or not given:
        raise ConfigError(
            "the model does not have these layers",
            where=option,
            got=", ".join(map(str, missing)) or "none",
            expected=f"1 to {depth}: the model has {depth} layers",
        )
    return given


def final_norm(network: Any) -> tuple[nn.Module, str] | None:
    """The module that holds the norm after the last layer, and its name there; None where each layer has its own.

    Raises:
        ContractError: the norm is of another kind than LayerNorm.
    """
    layers = layers_of(network)
    owner = next(part for part in network.modules() if any(child is layers for child in part.children()))
    name = next((name for name in FINAL_NORMS if isinstance(getattr(owner, name, None), nn.Module)), None)
    if name is None:
        return None
    if not isinstance(getattr(owner, name), nn.LayerNorm):
        got = type(getattr(owner, name)).__name__
        raise ContractError("unsupported kind of final norm", where=name, got=got, expected="LayerNorm")
    return owner, name


def truncated(transformer: Any, layers: int, norm: nn.Module | None = None) -> Any:
    """A copy of a Transformer module of sentence-transformers with its first layers only.

    Args:
        transformer: the module; it stays as it is.
        layers: how many to keep, 1 at least.
        norm: in the place of the final norm.
    """
    shortened = copy.deepcopy(transformer)
    place = final_norm(shortened.auto_model)
    if place is not None and norm is not None:
        setattr(*place, copy.deepcopy(norm))
    config = shortened.auto_model.config
    del layers_of(shortened.auto_model)[layers:]
    config.num_hidden_layers, config.output_hidden_states = layers, False
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types[:layers])
    return shortened


def states_of(features: dict[str, Any]) -> tuple[Tensor, ...]:
    """The states `[B, T, width]` before the first layer and after each; the last is the transformer's result.

    Raises:
        ContractError: the transformer does not give them.
    """
    states = features.get("all_layer_embeddings")
    if states is None:
        raise ContractError("the transformer gives no states of its layers", where="exits", do="make it by multi_exit")
    return (*states[:-1], features["token_embeddings"])
