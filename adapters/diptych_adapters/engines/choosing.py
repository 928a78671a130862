"""`runner_for`: the faster way to run a dense pipeline, when there is one and it makes the same vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.types import Floats
from diptych_adapters.engines.runner import Graph, Runner
from diptych_adapters.engines.tokens import Tokens
from diptych_adapters.engines.torch_graph import TorchGraph, is_plain
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError
from diptych_adapters.pipelines import untruncated

SAME = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.99}  # least cosine to the pipeline's own vectors
TRIAL = ("a", "Straße, naïve café; жаркое лето, 東京の天気", "a sentence of a longer text, told again and again. " * 60)


def runner_for(
    model: Any,
    options: SentenceTransformersOptions,
    prompts: tuple[str, str],
    *,
    max_length: int | None,
    width: int,
    key: str,
    numerics: str,
) -> Runner | None:
    """The runner of the backend that the options name; None where the library's own path must serve.

    Before it is used, it must make the pipeline's own vectors of three texts.

    Args:
        model: the torch pipeline.
        options: backend and precision.
        prompts: of queries and documents.
        max_length: tokens that are read of a text, None for all.
        width: numbers of a vector that is not truncated.
        key: tells pipelines apart; under it a converted model is kept.
        numerics: of the torch pipeline.

    Raises:
        ModelError: the backend that is asked for cannot run such a pipeline, or makes other vectors.
        MissingExtra: it is not installed.
    """
    converts = options.converts
    if not all(is_plain(model, prompt) for prompt in prompts):
        if converts:
            raise _unfit(options, "a pipeline of more than transformer, pooling, dense and normalise")
        return None
    graph = _openvino(model, options, key) if converts else TorchGraph(model, numerics)
    most = options.batch_size if "batch_size" in options.model_fields_set else None
    tokens, pad = Tokens(model.tokenizer, max_length), int(model.tokenizer.pad_token_id)
    made = Runner(tokens, graph, width=width, pad=pad, most=most)
    likeness = _lowest_cosine(made.encode(TRIAL), _reference(model))
    if likeness >= SAME.get(graph.numerics.split()[1], SAME["bfloat16"]):
        return made
    if converts:
        raise _unfit(options, f"vectors with a cosine of {likeness:.5f} to those of torch")
    return None


def _openvino(model: Any, options: SentenceTransformersOptions, key: str) -> Graph:
    from diptych_adapters.engines.openvino_graph import OpenVinoGraph, kept_at

    return OpenVinoGraph(model, precision=options.precision or "float32", folder=kept_at(key))


def _reference(model: Any) -> Floats:
    """The library's own vectors of the trial texts, whole."""
    with untruncated(model):
        return np.asarray(model.encode(list(TRIAL), prompt="", show_progress_bar=False), np.float32)


def _lowest_cosine(now: Floats, then: Floats) -> float:
    lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    return float(((now * then).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def _unfit(options: SentenceTransformersOptions, got: str) -> ModelError:
    return ModelError(
        f"backend {options.backend!r} cannot run model {options.model!r}", got=got, do="use backend: torch"
    )
