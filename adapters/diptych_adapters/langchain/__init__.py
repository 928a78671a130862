"""LangChain classes over diptych's encoders, rerankers and collections.

| class | LangChain's base class | works on |
|---|---|---|
| `DiptychEmbeddings` | `Embeddings` | a dense slot or adapter |
| `DiptychSparseEmbeddings` | `SparseEmbeddings` of langchain-qdrant | a sparse slot or adapter |
| `DiptychVectorStore` | `VectorStore` | a `Collection` |
| `DiptychRetriever` | `BaseRetriever` | a `Collection` |
| `DiptychCompressor` | `BaseDocumentCompressor` | a reranker |

Begin with `vector_store`.
"""

from __future__ import annotations

import diptych.search  # noqa: F401  before langchain-qdrant: with it qdrant-client is imported without FastEmbed
from diptych.errors import MissingExtra

try:
    import langchain_qdrant as _framework  # noqa: F401  langchain-core comes with it
except ModuleNotFoundError as error:
    raise MissingExtra(
        "diptych_adapters.langchain needs langchain-qdrant", got=str(error), do="pip install 'diptych[langchain]'"
    ) from error

from diptych_adapters.langchain.retriever import DiptychCompressor, DiptychRetriever
from diptych_adapters.langchain.vector_store import DiptychEmbeddings, DiptychSparseEmbeddings, DiptychVectorStore

__all__ = [
    "DiptychCompressor",
    "DiptychEmbeddings",
    "DiptychRetriever",
    "DiptychSparseEmbeddings",
    "DiptychVectorStore",
]
