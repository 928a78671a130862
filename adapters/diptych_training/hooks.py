"""The plugin that registers the built-in recipes and generators. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from diptych import hookimpl
from diptych.errors import ConfigError
from diptych.generation import JudgeRequest, QueryRequest
from diptych.protocols import Kind
from diptych.specs import RecipeSpec

__all__ = [
    "RECIPES",
    "diptych_generate_queries",
    "diptych_judge",
    "diptych_register_recipes",
]

_PACKAGE = "diptych_training.recipes"
_MODULES = {  # recipes that share a module; each has options of its own name there
    "cprd": "cprd",
    "distill": "cprd",
    "image_text": "media_text",
    "uni_encoder": "cross_encoder",
}


def _recipe(name: str, kind: Kind, recipe_class: str, summary: str) -> RecipeSpec:
    module, own = _MODULES.get(name, name), recipe_class if name in _MODULES else ""
    return RecipeSpec(
        name=name,
        kind=kind,
        factory=f"{_PACKAGE}.{module}:{recipe_class}",
        options=f"{_PACKAGE}.{module}:{own}Options",
        summary=summary,
        requires=("torch", "sentence_transformers", "accelerate", "datasets"),
        extra="diptych[train]",
    )


RECIPES = [
    _recipe("cross_encoder", "reranker", "CrossEncoding", "A reranker, from what the first stage finds."),
    _recipe("uni_encoder", "reranker", "UniEncoding", "A reranker that reads a query once, with all its candidates."),
    _recipe("cprd", "dense", "Cprd", "A reranker's order of the hard negatives, or its scores of them."),
    _recipe("distill", "dense", "Distill", "A reranker's distribution over each query's candidates."),
    _recipe("splade", "sparse", "Splade", "A lexicon, kept sparse by FLOPS; queries may go without a network."),
    _recipe("student", "dense", "Student", "A small model makes the queries of an encoder whose index stays."),
    _recipe("elastic", "dense", "Elastic", "Exits and widths of one encoder that all search one index."),
    _recipe("prototype_tuning", "dense", "PrototypeTuning", "Classes for a frozen encoder, from few examples."),
    _recipe("contrastive", "dense", "Contrastive", "Judged pairs and mined negatives, by the contrastive family."),
    _recipe("dexml", "dense", "Dexml", "Queries with many relevant documents, against all documents."),
    _recipe("image_text", "dense", "ImageText", "Pictures into a text encoder's space, and as words of a lexicon."),
]


@hookimpl
def diptych_register_recipes() -> list[RecipeSpec]:
    """All built-in recipes."""
    return RECIPES


@hookimpl
def diptych_generate_queries(request: QueryRequest) -> Sequence[Sequence[str]] | None:
    """Queries by `templates` or `chat`."""
    writer = _writer(request.generator, request.options)
    queries: Sequence[Sequence[str]] | None = writer.queries(request) if writer else None
    return queries


@hookimpl
def diptych_judge(request: JudgeRequest) -> Sequence[float] | None:
    """Judgements by `templates` or `chat`."""
    writer = _writer(request.generator, request.options)
    judgements: Sequence[float] | None = writer.judge(request) if writer else None
    return judgements


def _writer(name: str, options: Mapping[str, Any]) -> Any:
    if name == "templates":
        from diptych_training.data.generators import Templates

        if options:
            raise ConfigError("unknown options", where="generator 'templates'", got=sorted(options), expected="none")
        return Templates()
    if name == "chat":
        from diptych_training.data.generators import chat

        return chat(json.dumps(dict(options), sort_keys=True))
    return None
