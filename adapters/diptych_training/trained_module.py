"""The base of training modules: they are stored in checkpoints, but never in served models.

Sentence-transformers loads modules of other packages only with `trust_remote_code`. A trainer's own checkpoints are
free of that, so a module of ours may train within a model; what is exported consists of the library's own modules.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from diptych.errors import ConfigError, ContractError

FINAL_NORMS = ("final_norm", "norm", "final_layer_norm", "ln_f")  # of networks that normalise after their last layer


class TrainedModule(Module):
    """A module of sentence-transformers with weights, which a checkpoint keeps as safetensors."""

    def __init__(self) -> None:
        super().__init__()

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write configuration and weights into a folder; never pickled weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=True)

    @classmethod
    def load(  # type: ignore[override]  # what is not named here is handed on
        cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> Self:
        """Load the module from a checkpoint folder."""
        hub = {key: kwargs[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in kwargs}
        module = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))
        loaded: Self = cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module, **hub)
        return loaded


def parts_of(model: SentenceTransformer, *, where: str, allowed: Sequence[str]) -> list[nn.Module]:
    """The modules of a plain dense model.

    Args:
        model: that is to be trained.
        where: for the error.
        allowed: names of module classes that may follow the transformer.

    Raises:
        ContractError: it has others.
    """
    parts = list(model.children())
    names = [type(part).__name__ for part in parts]
    if names[:1] != ["Transformer"] or "Pooling" not in names or not set(names[1:]) <= set(allowed):
        raise ContractError(
            "the model has parts that this method cannot train",
            where=where,
            got=", ".join(names) or "no modules",
            expected=f"Transformer and of {', '.join(allowed)}",
        )
    return parts


def last_of(model: SentenceTransformer, kind: type[Any], *, do: str) -> Any:
    """The last module of a model in training.

    Raises:
        ContractError: it is of another kind.
    """
    parts = list(model.children())
    if not parts or not isinstance(parts[-1], kind):
        got = type(parts[-1]).__name__ if parts else "no modules"
        raise ContractError(
            "not a model in this training", where="its last module", got=got, expected=kind.__name__, do=do
        )
    return parts[-1]


def assembled(
    like: SentenceTransformer,
    modules: Sequence[nn.Module],
    *,
    prompts: Mapping[str, str] | None = None,
    similarity: Any = None,
) -> SentenceTransformer:
    """A model made of these modules, with the settings of another model.

    Args:
        like: whose prompts and measure it has.
        modules: in order.
        prompts: instead of those of `like`.
        similarity: instead of that of `like`.
    """
    model_prompts: Any = like.prompts if prompts is None else prompts
    model = SentenceTransformer(
        modules=list(modules),
        device=str(like.device),
        prompts=dict(model_prompts),
        default_prompt_name=like.default_prompt_name,
        similarity_fn_name=similarity or like.similarity_fn_name,
    )
    return model.train(like.training)


def saved(model: SentenceTransformer, folder: Path) -> Path:
    """Save the model as safetensors; returns the folder.

    Raises:
        ContractError: it has modules that sentence-transformers would not load.
    """
    foreign = [type(part) for part in model.modules() if isinstance(part, TrainedModule)]
    if foreign:
        what = "a model in training cannot be served"
        raise ContractError(what, where=folder, got=foreign[0].__name__, do="export it by the function of its module")
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    return folder


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
