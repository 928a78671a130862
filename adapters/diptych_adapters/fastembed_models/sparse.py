"""Sparse encoders of FastEmbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from fastembed import SparseTextEmbedding

from diptych.protocols import Fingerprint
from diptych.types import SparseVector
from diptych_adapters.engines.batches import by_length
from diptych_adapters.fastembed_models.model import EncoderModel
from diptych_adapters.model_options import FastEmbedOptions
from diptych_adapters.models import ModelError

HASHED = 2**32  # models without a vocabulary hash words to 32 bits


class FastEmbedSparseEncoder(EncoderModel):
    """A sparse encoder of FastEmbed: SPLADE++, inference-free SPLADE, BM42, miniCOIL.

    Raises:
        ModelError: see FastEmbedModel; also for Qdrant/bm25, whose average document length is a constant.
    """

    def __init__(self, options: FastEmbedOptions) -> None:
        if options.model.lower() == "qdrant/bm25":
            raise ModelError(
                "FastEmbed's BM25 takes the average document length as a constant",
                got=options.model,
                do="use adapter: bm25, which measures it",
            )
        super().__init__(SparseTextEmbedding, options.model, options.path, options)
        self._batch_size = options.batch_size
        self._vocabulary: int | None = self.description.vocab_size
        self.dimension: int = self._vocabulary or HASHED
        self.uses_idf: bool = bool(self.description.requires_idf)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(FastEmbedOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([], ("", ""), self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of queries."""
        return [_sparse(embedding) for embedding in by_length(inputs, self._batch_size, self.model.query_embed)]

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of documents."""
        return [_sparse(embedding) for embedding in by_length(inputs, self._batch_size, self.model.passage_embed)]

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vector's terms with their weights, heaviest first: tokens, or numbers where the model hashes words."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        return [(self._term(int(vector.indices[i])), float(vector.values[i])) for i in order]

    def _term(self, index: int) -> str:
        token = self.tokenizer.id_to_token(index) if self._vocabulary and self.tokenizer is not None else None
        return token or f"term {index}"


def _sparse(embedding: Any) -> SparseVector:
    order = np.argsort(embedding.indices, kind="stable")
    return SparseVector(embedding.indices[order].astype(np.uint32), embedding.values[order].astype(np.float32))
