"""Adapters for FastEmbed's models of texts and of pictures; `model` loads a model for all of them."""
