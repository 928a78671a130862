"""The embedding cache: vectors of documents, kept on this machine under what made them and the text they are of."""

from __future__ import annotations

from diptych.slots.cache.embedding_cache import EmbeddingCache, Namespace
from diptych.slots.cache.table import Usage

__all__ = ["EmbeddingCache", "Namespace", "Usage"]
