"""The embedding cache: vectors of documents, kept on this machine under what made them and the text they are of."""

from __future__ import annotations

from diptych.cache.cache import EmbeddingCache
from diptych.cache.namespace import Namespace
from diptych.cache.table import Usage

__all__ = ["EmbeddingCache", "Namespace", "Usage"]
