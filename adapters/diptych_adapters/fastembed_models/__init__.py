"""Adapters for FastEmbed's text and image models; `model` loads a model for all of them."""
