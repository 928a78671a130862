"""Adapters for FastEmbed's text and image models. Begin with `model`, which loads a model for all of them."""
