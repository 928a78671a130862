"""Late interaction over pictures by FastEmbed's multimodal models, such as ColPali."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from fastembed import LateInteractionMultimodalEmbedding
from PIL import Image

from diptych.errors import ContractError
from diptych.media import Content
from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.fastembed_models.image import processing_digest
from diptych_adapters.fastembed_models.model import FastEmbedModel
from diptych_adapters.media_models.pictures import middle
from diptych_adapters.model_options import FastEmbedOptions
from diptych_adapters.models import ModelError


class FastEmbedImageMultiVectorEncoder(FastEmbedModel):
    """A vector for each patch of a picture and for each token of a text.

    Inputs go through the model one by one, because some of FastEmbed's classes pad texts to the longest of a batch and
    keep the padding's vectors. A string is always a text, never the name of a file.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(LateInteractionMultimodalEmbedding, options.model, options.path, options)
        self._processing = processing_digest(self.folder)
        self.dimension: int = self.probe()

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(FastEmbedOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([f"image({self._processing})"], ("", ""), self.dimension)

    def probe(self) -> int:
        """The dimension of the vectors, from encoding a text and a picture.

        Raises:
            ModelError: the graph takes or returns something other than its class expects.
        """
        try:
            trial = list(self._vectors(["a", np.full((32, 48, 3), 128, np.uint8)]))
            (dimension,) = {vectors.shape[1] for vectors in trial}
        except Exception as error:  # numpy, Pillow and onnxruntime each raise their own
            raise ModelError(
                f"model {self.name!r} does not take what its own preprocessing gives",
                where=self.folder / self.description.model_file,
                got=f"{type(error).__name__}: {error}",
                expected="the files of the model that FastEmbed lists under this name",
            ) from error
        return int(dimension)

    def encode_query(self, inputs: Sequence[str | Content]) -> list[Floats]:
        """Vectors of the tokens of texts and of the patches of pictures, each float32 `[n_i, dimension]`."""
        return list(self._vectors(inputs))

    def encode_document(self, inputs: Sequence[str | Content]) -> list[Floats]:
        """Vectors of the patches of pictures and of the tokens of texts, each float32 `[n_i, dimension]`."""
        return list(self._vectors(inputs))

    def _vectors(self, inputs: Sequence[str | Content]) -> Iterator[Floats]:
        for item in inputs:
            if isinstance(item, str):
                (vectors,) = self.model.embed_text([item])
            elif isinstance(item, np.ndarray) and item.ndim == 3:
                (vectors,) = self.model.embed_image([Image.fromarray(middle(item))])
            else:
                raise ContractError(
                    "adapter fastembed-image-multivector does not read this",
                    where=f"model {self.name!r}",
                    got=type(item).__name__,
                    expected="texts and pictures, uint8 [height, width, 3]",
                    do="say `of: image` in the slot, or take the adapter of what the slot reads",
                )
            yield np.ascontiguousarray(vectors, np.float32)
