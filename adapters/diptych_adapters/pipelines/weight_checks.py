"""Refuses checkpoints whose weights do not match their model: transformers would initialise missing ones at random.

transformers only logs what it did not find. This module asks for the loading info, and each key must be explained:

- *missing*: the whole of a part beside the layers, such as a pooler, may be missing where no output depends on it.
- *unexpected*: heads that another class of the same architecture has, such as the language model's of an encoder that
  is loaded without, and buffers.
- *of another shape*: never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import safe_open
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints

OF_MODEL2VEC = {"embeddings", "weights", "mapping"}  # read by sentence-transformers too, under other names
SHOWN = 8  # keys that an error names
_SIBLINGS = (
    "MODEL_MAPPING",
    "MODEL_FOR_PRETRAINING_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    "MODEL_FOR_CTC_MAPPING",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING",
    "MODEL_FOR_TIME_SERIES_PREDICTION_MAPPING",
    "MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A transformers model, with its missing, unexpected and misshapen weights."""

    model: Any
    missing: frozenset[str]
    unexpected: frozenset[str]
    misshapen: dict[str, str]


@contextmanager
def recorded() -> Iterator[list[Loaded]]:
    """Record what transformers loads in this thread within the block, with its loading info.

    sentence-transformers has no way to ask for the info, so `from_pretrained` asks in its place meanwhile. Weights of
    another shape are reported there, not raised, so that one error names all keys of a checkpoint.
    """
    loads: list[Loaded] = []
    owner, thread = cast(Any, transformers.PreTrainedModel), threading.get_ident()
    replaced = owner.__dict__["from_pretrained"]

    def with_info(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        load = replaced.__get__(None, cls)
        if threading.get_ident() != thread or options.get("output_loading_info"):
            return load(*arguments, **options)
        options = {"ignore_mismatched_sizes": True, **options, "output_loading_info": True}
        model, info = load(*arguments, **options)
        shapes = {key: f"{list(got)} for {list(expected)}" for key, got, expected in info["mismatched_keys"]}
        loads.append(Loaded(model, frozenset(info["missing_keys"]), frozenset(info["unexpected_keys"]), shapes))
        return model

    owner.from_pretrained = classmethod(with_info)
    try:
        yield loads
    finally:
        owner.from_pretrained = replaced


def check_complete(
    loads: Iterable[Loaded],
    folder: ModelFolder,
    model: Any,
    *,
    fresh_head: bool = False,
    outputs: Callable[[], Iterable[torch.Tensor]] | None = None,
) -> None:
    """Raise ModelError if a model does not match its files.

    Args:
        loads: from `recorded`.
        folder: the model's.
        model: the whole pipeline; it runs only if weights are missing.
        fresh_head: for a training that starts with a new head: only weights that token vectors need must be present.
        outputs: what the model is used for, where it is no pipeline of sentence-transformers.

    Raises:
        ModelError: naming the keys.
    """
    for load in loads:
        missing = load.missing - load.misshapen.keys()
        if fresh_head:
            # The keys of the model without its head.
            body = load.model.base_model
            prefix = "" if body is load.model else f"{load.model.base_model_prefix}."
            missing &= frozenset(f"{prefix}{key}" for key in body.state_dict())
        trial = partial(_token_vectors, load.model) if fresh_head else outputs or partial(_outputs, model)
        missing = _needed(load.model, missing, trial) if missing else missing
        unexpected = _unexplained(load) if load.unexpected else set()
        shapes = [f"{key} ({shape})" for key, shape in sorted(load.misshapen.items())]
        kinds = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": shapes}
        wrong = [f"{len(keys)} {what}: {_key_list(keys)}" for what, keys in kinds.items() if keys]
        if wrong:
            raise _refusal(folder, ", ".join(wrong), f"each weight of {type(load.model).__name__}, in its shape")


def check_modules(model: Any, folder: ModelFolder) -> None:
    """Raise ModelError for weights outside the transformer that no module of the pipeline has loaded.

    Most modules of sentence-transformers load strictly; tables of static vectors take theirs and leave the rest.

    Raises:
        ModelError: naming the keys.
    """
    for module in model.modules():
        if isinstance(module, StaticEmbedding) and module.num_embeddings != module.tokenizer.get_vocab_size():
            rows, tokens = module.num_embeddings, module.tokenizer.get_vocab_size()
            raise _refusal(folder, f"a table of {rows} vectors", f"a vector for each of {tokens} tokens")
    loaded = [f".{key}" for key in model.state_dict()]
    for part in folder.module_folders():
        file = part / "model.safetensors"
        if not file.is_file() or "model_type" in fingerprints.read_json(part / "config.json"):
            continue
        with safe_open(file, "pt") as weights:
            keys = set(weights.keys()) - OF_MODEL2VEC
        if stray := sorted(key for key in keys if not any(name.endswith(f".{key}") for name in loaded)):
            raise _refusal(
                folder, f"{len(stray)} unexpected: {_key_list(stray)}", "weights that a module has", where=file
            )


def _refusal(folder: ModelFolder, got: str, expected: str, *, where: Path | None = None) -> ModelError:
    return ModelError(
        f"the weights of model {folder.name!r} do not match its config",
        where=where or folder.path,
        got=got,
        expected=f"{expected}, and no other",
        do="download or save the model again: config.json and the weights must be of one model",
    )


def _key_list(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _needed(model: Any, missing: frozenset[str], outputs: Callable[[], Iterable[torch.Tensor]]) -> frozenset[str]:
    """The missing weights that matter: of parts that have other weights, and whole parts that affect the outputs.

    The former may be one expert of many, which no trial text reaches.
    """
    present = {_part(model, key) for key in model.state_dict() if key not in missing}
    absent_parts = frozenset(key for key in missing if _part(model, key) not in present)
    return missing if _affect_outputs(model, absent_parts, outputs) else missing - absent_parts


def _affect_outputs(model: Any, keys: Collection[str], outputs: Callable[[], Iterable[torch.Tensor]]) -> bool:
    """Whether one of the weights affects the outputs: NaN weights then give NaN outputs."""
    by_name = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    tensors = [by_name[key] for key in keys if key in by_name and by_name[key].is_floating_point()]
    originals = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        try:
            for tensor in tensors:
                tensor.fill_(float("nan"))
            return any(bool(torch.isnan(output).any()) for output in outputs())
        finally:
            for tensor, value in zip(tensors, originals, strict=True):
                tensor.copy_(value)


def _part(model: Any, key: str) -> str:
    """The child of the model, or of its body, that a weight belongs to, such as the pooler."""
    body = f"{model.base_model_prefix}."
    prefix = body if key.startswith(body) else ""
    return prefix + key.removeprefix(prefix).partition(".")[0]


def _token_vectors(model: Any) -> Iterator[torch.Tensor]:
    with torch.inference_mode():
        yield model.base_model(torch.zeros((1, 1), dtype=torch.long, device=model.device))[0]


def _unexplained(load: Loaded) -> set[str]:
    """The unexpected keys that neither a buffer of the model nor another class of its architecture explains."""
    model = load.model
    body = f"{model.base_model_prefix}."
    buffers = {name.removeprefix(body) for name, _ in model.named_buffers()}
    unexplained = {key for key in load.unexpected if key.removeprefix(body) not in buffers}
    unexplained = {key for key in unexplained if not key.endswith("position_ids")}  # of older versions of transformers
    for sibling in _siblings(model.config) if unexplained else ():
        keys = {key.removeprefix(body) for key in sibling}
        unexplained = {key for key in unexplained if key.removeprefix(body) not in keys}
        if not unexplained:
            break
    return unexplained


def _siblings(config: Any) -> Iterator[Collection[str]]:
    """The keys of each class that transformers has for a config, made without memory for weights."""
    classes: set[type[Any]] = set()
    for name in _SIBLINGS:
        kind = getattr(transformers, name).get(type(config), None)
        for model_class in kind if isinstance(kind, tuple) else (kind,):
            if model_class is not None and model_class not in classes:
                classes.add(model_class)
                with torch.device("meta"):
                    yield model_class(config).state_dict().keys()


def _outputs(model: Any) -> Iterator[torch.Tensor]:
    """The model's answers to one word: scores, or vectors of the text and its tokens; for each route."""
    texts: list[Any] = [("word", "text")] if hasattr(model, "predict") else ["word"]
    for options in ({"task": "query"}, {"task": "document"}) if fingerprints.is_routed(model) else ({},):
        yield from answers(model, texts, **options)


def answers(model: Any, inputs: Sequence[Any], **options: str) -> Iterator[torch.Tensor]:
    """All numbers that a model of sentence-transformers gives for inputs; `options` say which route they take."""
    features = model.preprocess(inputs, **options)
    placed = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in features.items()}
    with torch.inference_mode():
        answer = model(placed, **options)
    yield from (value for value in answer.values() if torch.is_tensor(value) and value.is_floating_point())
