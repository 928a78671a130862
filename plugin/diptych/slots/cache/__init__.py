"""The embedding cache: document vectors on disk, keyed by encoder and text, shared by all collections of a user.

Begin with `embedding_cache`. `table` is the bounded SQLite file below it; it also finds, creates and checks that file.
"""

from __future__ import annotations

from diptych.slots.cache.embedding_cache import EmbeddingCache, Namespace
from diptych.slots.cache.table import Usage

__all__ = ["EmbeddingCache", "Namespace", "Usage"]
