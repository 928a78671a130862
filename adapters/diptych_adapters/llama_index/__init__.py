"""LlamaIndex classes over diptych: embeddings, sparse functions, a retriever, a vector store and a reranker.

Begin with `store`. `nodes` turns LlamaIndex nodes into documents and back, `filters` translates filters.
"""

from __future__ import annotations

from diptych.errors import MissingExtra

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra(
        "diptych_adapters.llama_index needs llama-index-core",
        got=f"no module {error.name}",
        do="pip install 'diptych[llama-index]'",
    ) from error

from diptych_adapters.llama_index.retriever import (
    DiptychEmbedding,
    DiptychReranker,
    DiptychRetriever,
    sparse_doc_fn,
    sparse_query_fn,
)
from diptych_adapters.llama_index.store import DiptychVectorStore

__all__ = [
    "DiptychEmbedding",
    "DiptychReranker",
    "DiptychRetriever",
    "DiptychVectorStore",
    "sparse_doc_fn",
    "sparse_query_fn",
]
