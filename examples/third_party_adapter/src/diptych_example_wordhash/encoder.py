"""`WordHash`: counts hashed words, so texts with the same words are near each other."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from diptych.types import Floats


class WordHash:
    """A dense encoder without a model. Satisfies `diptych.DenseEncoder`, and so needs no base class."""

    similarity = "cosine"
    asymmetric = False
    normalized = True

    def __init__(self, *, dimension: int = 256) -> None:
        self.dimension = dimension

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]` of length 1."""
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        for vector, text in zip(vectors, inputs, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                vector[zlib.crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_query = encode_document
