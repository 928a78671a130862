"""The plugin that registers the experimental recipes and adapters. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych import hookimpl
from diptych.protocols import Kind
from diptych.specs import AdapterSpec, RecipeSpec
from diptych_adapters.model_options import PromptOptions
from diptych_adapters.specs import CARRIED

__all__ = ["ADAPTERS", "RECIPES", "diptych_register_adapters", "diptych_register_recipes"]


class UniDECOptions(PromptOptions):
    """Options of `unidec`."""

    head: Literal["joint", "classifier"] = Field(
        "joint", description="Vectors to make: both heads' concatenated, or the classifier's only."
    )


def _recipe(name: str, kind: Kind, recipe_class: str, summary: str, module: str = "") -> RecipeSpec:
    """The spec of a recipe; `module` where that is not called like the recipe: there it has options of its own name."""
    where = f"diptych_experimental.{module or name}"
    return RecipeSpec(
        name=name,
        kind=kind,
        factory=f"{where}:{recipe_class}",
        options=f"{where}:{recipe_class if module else ''}Options",
        summary=f"Experimental. {summary}",
        requires=("torch", "sentence_transformers", "accelerate", "datasets"),
        extra="diptych[train]",
    )


RECIPES = [
    _recipe("ar2", "dense", "Adversarial", "A retriever and a ranker that train each other, round by round."),
    _recipe("multi_exit", "dense", "MultiExit", "One encoder that may be left after several of its layers."),
    _recipe("cmim", "dense", "CMIM", "Texts alone, read back from their vectors by a decoder that is discarded."),
    _recipe(
        "pretrain",
        "dense",
        "Pretrain",
        "Pictures or clips without labels, by filling in what is hidden.",
        module="pretraining.recipe",
    ),
    _recipe("unidec", "dense", "UniDec", "A dual encoder and a classifier over the documents, served as one vector."),
    *(
        _recipe(
            f"{modality}_text",
            "dense",
            f"{modality.capitalize()}Text",
            f"{items} into a text encoder's space, and as words of a lexicon.",
            module="media_text",
        )
        for modality, items in (("sound", "Sounds"), ("video", "Clips"))
    ),
]


def _adapter(name: str, kind: Kind, factory: str, options: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"diptych_experimental.{factory}.of",
        options=f"diptych_experimental.{options}",
        summary=f"Experimental. {summary}",
        requires=("torch", "sentence_transformers"),
        extra="diptych[torch]",
        carried=CARRIED,
    )


ADAPTERS = [
    _adapter(
        "unidec",
        "dense",
        "unidec_encoder:UniDECEncoder",
        "hooks:UniDECOptions",
        "Models of the recipe unidec: dual encoder and classifier as one vector.",
    ),
    _adapter(
        "yes-no",
        "reranker",
        "yes_no:YesNoReranker",
        "yes_no:YesNoOptions",
        "Local causal language models that answer yes or no, scored by the probability of the next token.",
    ),
]


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """All experimental adapters."""
    return ADAPTERS


@hookimpl
def diptych_register_recipes() -> list[RecipeSpec]:
    """All experimental recipes."""
    return RECIPES
