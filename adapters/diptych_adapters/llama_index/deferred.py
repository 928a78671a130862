"""`DeferredEmbedding`: the `embed_model` of an index whose store encodes by itself."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding

from diptych.errors import SearchError


class DeferredEmbedding(BaseEmbedding):
    """Leaves nodes without numbers, for `DiptychVectorStore` to encode those that are new, by each of its slots.

    LlamaIndex asks its `embed_model` for the vectors of all nodes before the store sees them, so that one that encodes
    would encode what the collection has already, and what the store encodes anyway.
    """

    model_name: str = "deferred to the store"

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes into what it serialises."""
        return "DeferredEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return []

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return []

    def _get_query_embedding(self, query: str) -> list[float]:
        raise SearchError(
            "the embed_model of a DiptychVectorStore makes no vectors",
            where="DeferredEmbedding",
            got="a query to encode",
            expected="queries in words: the store encodes them",
            do="where vectors are needed, use DiptychEmbedding",
        )

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
