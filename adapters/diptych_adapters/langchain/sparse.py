"""`DiptychSparseEmbeddings`: a sparse encoder as langchain-qdrant's `SparseEmbeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector

from diptych_adapters.langchain.named_encoder import Named


class DiptychSparseEmbeddings(Named, SparseEmbeddings):
    """A sparse slot or adapter, for `QdrantVectorStore(sparse_embedding=...)` in its sparse and hybrid modes.

        DiptychSparseEmbeddings.of("bm25", {"average_length": 60})

    `bm25` needs the option `average_length` here, since nobody measures the corpus; and Qdrant must multiply by IDF:
    `sparse_vector_params={"modifier": models.Modifier.IDF}`.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no sparse vectors.
    """

    kind = "sparse"

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors; bm25 that does not know the average length.
        """
        return _models(self.encoder.encode_document(texts))

    def embed_query(self, text: str) -> SparseVector:
        """The vector of a query.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _models(self.encoder.encode_query([text]))[0]


def _models(vectors: Sequence[Any]) -> list[SparseVector]:
    return [SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist()) for vector in vectors]
