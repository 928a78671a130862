"""Adapters for FastEmbed's dense, sparse, late-interaction and reranking models, one module for each kind.

`model` loads a model for all of them.
"""
