"""Cross-encoders of FastEmbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from fastembed.rerank.cross_encoder import TextCrossEncoder

from diptych.protocols import Pair
from diptych.types import Floats
from diptych_adapters.fastembed_models.model import FastEmbedModel, custom_folder, is_folder, register
from diptych_adapters.model_options import FastEmbedRerankerOptions


class FastEmbedReranker(FastEmbedModel):
    """A cross-encoder of FastEmbed: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    independent = True

    def __init__(self, options: FastEmbedRerankerOptions) -> None:
        name, path = options.model, options.path
        if is_folder(name):
            folder, file = custom_folder(options.model, options.model_file)
            name, path = register(TextCrossEncoder, folder, {"model_file": file}), str(folder)
        super().__init__(TextCrossEncoder, name, path, options)
        self._batch_size = options.batch_size

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(FastEmbedRerankerOptions(**options))

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better."""
        order = sorted(range(len(pairs)), key=lambda place: -sum(map(len, pairs[place])))
        scores = np.zeros(len(pairs), np.float32)
        ordered = [(pairs[index][0], pairs[index][1]) for index in order]
        scores[order] = list(self.model.rerank_pairs(ordered, batch_size=self._batch_size))
        return scores
