"""Recipes: one module each, named by `diptych_training.hooks`."""
