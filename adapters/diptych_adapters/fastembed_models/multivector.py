"""Late-interaction encoders of FastEmbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from fastembed import LateInteractionTextEmbedding

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.batches import by_length
from diptych_adapters.fastembed_models.model import EncoderModel
from diptych_adapters.model_options import FastEmbedOptions


class FastEmbedMultiVectorEncoder(EncoderModel):
    """A ColBERT model of FastEmbed: a vector per token.

    A document of which no token is kept gives one zero vector, which is similar to nothing: Qdrant takes no empty
    multivector.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(LateInteractionTextEmbedding, options.model, options.path, options)
        self._batch_size = options.batch_size
        self.dimension: int = self.probe()

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(FastEmbedOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([], ("", ""), self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of queries, each float32 `[tokens_i, dimension]`."""
        return [self._checked(vectors) for vectors in by_length(inputs, self._batch_size, self.model.query_embed)]

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of documents, each float32 `[tokens_i, dimension]`."""
        return [self._checked(vectors) for vectors in by_length(inputs, self._batch_size, self.model.passage_embed)]

    def _checked(self, vectors: Any) -> Floats:
        return np.ascontiguousarray(vectors, np.float32) if len(vectors) else np.zeros((1, self.dimension), np.float32)
