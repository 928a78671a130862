"""FastEmbed's image encoders: alone, with the text model of the same space, and by late interaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastembed import ImageEmbedding, LateInteractionMultimodalEmbedding, TextEmbedding
from PIL import Image

from diptych.errors import ContractError, brief
from diptych.media import Content
from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.batches import by_length
from diptych_adapters.fastembed_models import FastEmbedModel
from diptych_adapters.media_models.readers import middle
from diptych_adapters.model_options import FastEmbedImageTextOptions, FastEmbedOptions
from diptych_adapters.models import ModelError
from diptych_adapters.pipelines import fingerprints


class FastEmbedImageEncoder(FastEmbedModel):
    """One vector of length 1 for each picture, float32 `[n, dimension]`, by an image model that FastEmbed lists.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"
    adapter = "fastembed with modality: image"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(ImageEmbedding, options.model, options.path, options)
        self._batch_size = options.batch_size
        self._processing = processing_digest(self.folder)
        self.dimension: int = self.probe()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of(self._steps(), ("", ""), self.dimension)

    def probe(self) -> int:
        """The dimension of the vectors, from encoding a picture.

        Raises:
            ModelError: the graph does not take what preprocessor_config.json says.
        """
        try:
            return int(self._pictures([np.full((32, 48, 3), 128, np.uint8)]).shape[1])
        except Exception as error:  # numpy, Pillow and onnxruntime each raise their own
            raise _unfit(
                self, error, expected="a graph of pictures, and the preprocessor_config.json of the same model"
            ) from error

    def encode_query(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        return self._encode(inputs)

    def encode_document(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._encode(inputs)

    def _encode(self, inputs: Sequence[str | Content]) -> Floats:
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        texts = [at for at, item in enumerate(inputs) if isinstance(item, str)]
        pictures = [at for at, item in enumerate(inputs) if isinstance(item, np.ndarray) and item.ndim == 3]
        if len(texts) + len(pictures) < len(inputs) or (texts and not self._reads_texts):
            other = next(item for at, item in enumerate(inputs) if at not in pictures)
            raise ContractError(
                f"adapter {self.adapter} does not read this",
                where=f"model {self.name!r}",
                got=f"a text: {brief(other)}" if isinstance(other, str) else type(other).__name__,
                expected="pictures, uint8 [height, width, 3]" + (", and texts" if self._reads_texts else ""),
                do="set `of: image` in the slot, or use an adapter for what the slot reads",
            )
        if pictures:
            vectors[pictures] = self._pictures([inputs[at] for at in pictures])
        if texts:
            vectors[texts] = self._texts([str(inputs[at]) for at in texts])
        return vectors

    _reads_texts = False

    def _texts(self, texts: list[str]) -> Floats:
        raise NotImplementedError

    def _pictures(self, pictures: Sequence[Any]) -> Floats:
        images = [Image.fromarray(middle(pixels)) for pixels in pictures]
        return _unit(list(self.model.embed(images, batch_size=self._batch_size)))

    def _steps(self) -> list[str]:
        return ["normalize", f"image({self._processing})"]


class FastEmbedImageTextEncoder(FastEmbedImageEncoder):
    """One vector of length 1 for each picture and each text, by two models of FastEmbed of one space.

    A string is always a text, never the name of a file.

    Raises:
        ModelError: see FastEmbedModel; or the dimensions of the two models differ.
    """

    options_model = FastEmbedImageTextOptions
    adapter = "fastembed with modality: image-text"
    _reads_texts = True

    def __init__(self, options: FastEmbedImageTextOptions) -> None:
        super().__init__(options)
        of_texts = options.model_copy(update={"model": options.text_model})
        self._text_side = FastEmbedModel(TextEmbedding, options.text_model, options.text_path, of_texts)
        dimension = self._text_side.probe()
        if dimension != self.dimension:
            raise ModelError(
                f"models {options.model!r} and {options.text_model!r} do not share a vector space",
                got=f"vectors of {self.dimension} and {dimension}",
                expected="the two sides of one model, such as the two of Qdrant/clip-ViT-B-32",
            )

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes: the picture model's fingerprint with the text model's weights and tokenizer."""
        texts = self._text_side
        return fingerprints.fingerprint(
            weights=fingerprints.digest([self._digests.weights, texts._digests.weights]),
            tokenizer=texts._digests.tokenizer,
            pooling=[type(self._inner).__name__.lower(), type(texts._inner).__name__.lower(), *self._steps()],
            prompts=("", ""),
            max_length=texts.max_length,
            dimension=self.dimension,
            numerics=f"fastembed {self._provider()}",
        )

    def _texts(self, texts: list[str]) -> Floats:
        embed = self._text_side.model.query_embed
        return _unit(by_length(texts, self._batch_size, lambda batch: embed([*batch])))


def _unit(rows: list[Any]) -> Floats:
    vectors = np.asarray(rows, np.float32).reshape(len(rows), -1)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def processing_digest(folder: Path) -> str:
    """A digest of how a folder's model makes pictures its input."""
    saved = fingerprints.read_json(folder / "preprocessor_config.json")
    facts = {key: value for key, value in saved.items() if key != "processor_class"}
    return fingerprints.digest(facts)[: fingerprints.DIGITS]


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
            raise _unfit(self, error, expected="the files of the model that FastEmbed lists under this name") from error
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
                    "adapter fastembed-multivector with modality: image-text does not read this",
                    where=f"model {self.name!r}",
                    got=type(item).__name__,
                    expected="texts and pictures, uint8 [height, width, 3]",
                    do="set `of: image` in the slot, or use an adapter for what the slot reads",
                )
            yield np.ascontiguousarray(vectors, np.float32)


def _unfit(model: FastEmbedModel, error: Exception, *, expected: str) -> ModelError:
    return ModelError(
        f"model {model.name!r} fails on the output of its own preprocessing",
        where=model.folder / model.description.model_file,
        got=f"{type(error).__name__}: {error}",
        expected=expected,
    )
