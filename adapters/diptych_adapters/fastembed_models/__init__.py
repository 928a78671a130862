"""Adapters for FastEmbed's dense, sparse, late-interaction and reranking models."""
