"""Training: reads a recipe file, runs the recipe it names, and enters the trained model in a config.

Recipes come from plugins through the hook `diptych_register_recipes`; nothing here imports torch. Begin with
`contracts` (what a recipe must do), then `recipe_file` and `register` (the config entry).
"""

from __future__ import annotations

from diptych.training.contracts import Recipe, Registration, Shown, TrainReport, Watcher
from diptych.training.recipe_file import (
    RecipeFile,
    RelativePath,
    load_recipe,
    read_documents,
    read_media,
    unread_warning,
)
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
    "read_media",
    "register",
    "slot_for",
    "unread_warning",
]
