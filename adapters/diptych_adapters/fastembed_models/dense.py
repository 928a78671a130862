"""Dense encoders of FastEmbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import PoolingType

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.batches import by_length
from diptych_adapters.engines.tokens import unread_share
from diptych_adapters.fastembed_models.model import EncoderModel, custom_folder, is_folder, register
from diptych_adapters.model_options import FastEmbedDenseOptions


class FastEmbedEncoder(EncoderModel):
    """A dense encoder of FastEmbed: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedDenseOptions) -> None:
        self._steps: list[str] = []
        name, path = options.model, options.path
        if is_folder(name):
            name, path = self._custom(options)
        super().__init__(TextEmbedding, name, path, options)
        self._prompts = (options.query_prompt, options.document_prompt)
        self._batch_size = options.batch_size
        self.dimension: int = self.probe()

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(FastEmbedDenseOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of(self._steps, self._prompts, self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        prompt = self._prompts[0]
        return self._stack(
            by_length(inputs, self._batch_size, lambda texts: self.model.query_embed([prompt + t for t in texts]))
        )

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        prompt = self._prompts[1]
        return self._stack(
            by_length(inputs, self._batch_size, lambda texts: self.model.passage_embed([prompt + t for t in texts]))
        )

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of the letters that the tokenizer leaves unknown or reads one by one, 0 to 1."""
        return unread_share([self.folder], inputs)

    def _stack(self, vectors: list[Any]) -> Floats:
        return np.asarray(vectors, np.float32).reshape(len(vectors), self.dimension)

    def _custom(self, options: FastEmbedDenseOptions) -> tuple[str, str]:
        folder, file = custom_folder(options.model, options.model_file)
        facts = {
            "pooling": PoolingType[options.pooling.upper()],
            "normalization": options.normalize,
            "model_file": file,
            "output_name": options.output,
            "dim": 1,  # FastEmbed only repeats it; ours is measured
        }
        steps = [options.output, options.pooling, "normalize" if options.normalize else None]
        self._steps = [step for step in steps if step]
        return register(TextEmbedding, folder, facts), str(folder)
