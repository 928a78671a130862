"""The base of training modules: they are stored in checkpoints, but never in served models.

Sentence-transformers loads modules of other packages only with `trust_remote_code`. A trainer's own checkpoints are
free of that, so a module of ours may train within a model; what is exported consists of the library's own modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import nn

from diptych.errors import ContractError


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
