"""Training: reads a recipe file, runs the recipe that it names, and puts the trained model into a config.

Recipes are guests, found by the hook `diptych_register_recipes`; nothing here imports torch.
"""

from __future__ import annotations

from diptych.training.contracts import Recipe, Registration, Shown, TrainReport, Watcher
from diptych.training.documents import read_documents
from diptych.training.loading import RecipeFile, RelativePath, load_recipe
from diptych.training.register import register, slot_for

__all__ = [
    "Recipe",
    "RecipeFile",
    "Registration",
    "RelativePath",
    "Shown",
    "TrainReport",
    "Watcher",
    "load_recipe",
    "read_documents",
    "register",
    "slot_for",
]
