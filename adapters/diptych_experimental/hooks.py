"""The plugin that registers the experimental recipes and adapters. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec

from diptych import hookimpl
from diptych.protocols import Kind
from diptych.specs import AdapterSpec, RecipeSpec

__all__ = ["RECIPES", "diptych_register_adapters", "diptych_register_recipes"]


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


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """All experimental adapters; none without `diptych_adapters`, whose models they load."""
    if find_spec("diptych_adapters") is None:
        return []
    from diptych_experimental.adapters import ADAPTERS

    return ADAPTERS


@hookimpl
def diptych_register_recipes() -> list[RecipeSpec]:
    """All experimental recipes."""
    return RECIPES
