"""The adapters `media-text` and `media-lexicon`: media and texts in one dense space or lexicon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from diptych import Registry
from diptych.media import Content
from diptych.protocols import DenseEncoder, Fingerprint, Similarity
from diptych.runtime.environment import demands_of
from diptych.types import Floats, SparseVector
from diptych_adapters.media_text.network import MediaTextModel, encoded, words_of
from diptych_adapters.model_options import MediaLexiconOptions, MediaTextOptions
from diptych_adapters.models import ModelError, resolve
from diptych_adapters.pipelines import fingerprints

Input = str | Content  # a text, or media in the form that encoders get
V = TypeVar("V")


class _Encoder(Generic[V]):
    """What both kinds of adapters share: the model, its text encoder, and inputs that are texts or media.

    Args:
        of: the modality of the media.
        options: of the adapter.

    Raises:
        ModelError: the model cannot be found or read.
    """

    def __init__(self, of: str, options: MediaTextOptions) -> None:
        self._options, folder = options, resolve(options.model)
        self._name = folder.name
        self._model = MediaTextModel.load(folder, of)
        self._model.network.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._digest = fingerprints.weights_digest([folder.path])

    @cached_property
    def text(self) -> DenseEncoder:
        """The frozen text encoder.

        Raises:
            ModelError: the model found under its name makes other vectors than the one used in training.
        """
        settings, moved = self._model.text, self._options.text_model
        options = {**settings["options"], **({"model": moved} if moved else {})}
        if (reaches := demands_of(options, files=False)) or Registry.default().spec(settings["adapter"]).remote:
            what, expected = "the model's text encoder reaches out of this machine", "a model of this machine"
            raise ModelError(what, where=self._name, got=", ".join(reaches) or settings["adapter"], expected=expected)
        encoder = text_encoder(settings["adapter"], options)
        if space_of(encoder) != settings["space"]:
            raise ModelError(
                f"the text encoder of model {self._name!r} is not the one that it was trained with",
                where=f"{settings['adapter']} {options}",
                got=space_of(encoder),
                expected=settings["space"],
                do="install the model that it was trained with, name its folder as text_model, or train again",
            )
        return encoder

    def _fingerprint(
        self, steps: Sequence[str], words: Sequence[str], dimension: int, queries: str = ""
    ) -> Fingerprint:
        shape = self._model.network.shape
        sizes = ",".join(str(value) for value in (*asdict(shape)["form"].values(), shape.width))
        return fingerprints.fingerprint(
            weights=self._digest,
            tokenizer=fingerprints.digest([self._model.text["space"], *words]),
            pooling=[f"{shape.form.of}-text({sizes})", *steps],
            prompts=(queries, ""),
            max_length=None,
            dimension=dimension,
            numerics=f"torch float32 {self._model.network.vector.weight.device.type}",
        )

    def _each(
        self,
        inputs: Sequence[Input],
        media: Callable[[list[Content]], Sequence[V]],
        texts: Callable[[list[str]], Sequence[V]],
    ) -> list[V]:
        """A result for each input, in order; media and texts are encoded apart."""
        results: dict[int, V] = {}
        for kind, encode in ((True, texts), (False, media)):
            places = [place for place, entry in enumerate(inputs) if isinstance(entry, str) is kind]
            results |= dict(zip(places, encode([inputs[place] for place in places]) if places else [], strict=True))  # type: ignore[misc]  # of one kind
        return [results[place] for place in range(len(inputs))]


def text_encoder(adapter: str, options: Mapping[str, Any]) -> DenseEncoder:
    """The dense encoder of a registered adapter.

    Raises:
        RegistryError: there is none, or it cannot be made.
        ModelError: it is not dense.
    """
    encoder = Registry.default().create(adapter, options)
    if not isinstance(encoder, DenseEncoder):
        what = "the text encoder of a model of media and texts is not dense"
        raise ModelError(what, where=adapter, got=type(encoder).__name__, expected="one vector per text")
    return encoder


def space_of(encoder: DenseEncoder) -> str:
    """The space of its vectors; "" if the encoder does not say."""
    fingerprint = getattr(encoder, "fingerprint", None)
    return fingerprint.space if isinstance(fingerprint, Fingerprint) else ""


class MediaTextEncoder(_Encoder[Floats]):
    """Media and texts in the space of a frozen text encoder; float32 `[n, dimension]`, media at unit length."""

    similarity: Similarity = "cosine"

    def __init__(self, of: str, **options: Any) -> None:
        super().__init__(of, MediaTextOptions(**options))
        self.dimension: int = self._model.network.shape.dimension

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self._fingerprint(["normalize"], (), self.dimension)

    def encode_query(self, inputs: Sequence[Input]) -> Floats:
        """Vectors of queries: texts, media, or both in one call."""
        return self._stacked(self._each(inputs, self._media, lambda texts: self.text.encode_query(texts)))  # type: ignore[arg-type, return-value]  # dense

    def encode_document(self, inputs: Sequence[Input]) -> Floats:
        """Vectors of documents: media, texts, or both in one call."""
        return self._stacked(self._each(inputs, self._media, lambda texts: self.text.encode_document(texts)))  # type: ignore[arg-type, return-value]  # dense

    def _media(self, contents: list[Content]) -> Sequence[Floats]:
        vectors, _ = encoded(self._model.network, contents, self._options.batch_size)
        return list(vectors.numpy())

    def _stacked(self, rows: Sequence[Floats]) -> Floats:
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, self.dimension), np.float32)


class MediaLexiconEncoder(_Encoder[SparseVector]):
    """Media as weights of words; texts as their words, or as the weights that the lexicon's text side gives them.

    Raises:
        ModelError: the model was trained without a lexicon.
    """

    uses_idf = False

    def __init__(self, of: str, **given: Any) -> None:
        options = MediaLexiconOptions(**given)
        super().__init__(of, options)
        if not self._model.words:
            raise ModelError(
                f"model {self._name!r} has no lexicon",
                where=options.model,
                got="0 terms",
                do="train it with a section `lexicon`, or use adapter: media-text",
            )
        self.dimension: int = self._model.network.shape.terms
        self._terms = {word: term for term, word in enumerate(self._model.words)}
        self._keep, self._queries = options.max_active_dims, options.queries
        self.asymmetric = options.queries == "encoder"
        self._weights = self._model.network.query_weights.detach().relu().cpu().numpy()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        queries = "" if self._queries == "words" else self._queries
        return self._fingerprint([f"lexicon({self._keep})"], self._model.words, self.dimension, queries)

    def encode_query(self, inputs: Sequence[Input]) -> list[SparseVector]:
        """Term weights of queries: texts, media, or both in one call."""
        return self._each(inputs, self._media, self._by_side if self._queries == "encoder" else self._by_words)

    def encode_document(self, inputs: Sequence[Input]) -> list[SparseVector]:
        """Term weights of documents: media, texts, or both in one call."""
        return self._each(inputs, self._media, self._by_words)

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vector's words with their weights, heaviest first."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        return [(self._model.words[int(vector.indices[i])], float(vector.values[i])) for i in order]

    def _media(self, contents: list[Content]) -> list[SparseVector]:
        _, weights = encoded(self._model.network, contents, self._options.batch_size)
        assert weights is not None
        return [_heaviest(row, self._keep) for row in weights.numpy()]

    def _by_words(self, texts: list[str]) -> list[SparseVector]:
        """The words of texts; a text without any known word by the lexicon's text side, so that it finds something."""
        vectors: list[SparseVector] = []
        for text in texts:
            terms = np.unique([self._terms[word] for word in words_of(text) if word in self._terms]).astype(np.uint32)
            terms = terms[self._weights[terms] > 0]
            length = np.linalg.norm(self._weights[terms]) or 1.0
            vectors.append(SparseVector(terms, np.asarray(self._weights[terms] / length, np.float32)))
        unknown = [n for n, vector in enumerate(vectors) if not len(vector.indices) and texts[n].strip()]
        for n, vector in zip(unknown, self._by_side([texts[n] for n in unknown]) if unknown else [], strict=True):
            vectors[n] = vector
        return vectors

    @torch.inference_mode()
    def _by_side(self, texts: list[str]) -> list[SparseVector]:
        vectors = torch.from_numpy(self.text.encode_query(texts))
        network = self._model.network
        weights = network.words_of_texts(vectors.to(network.vector.weight.device)).cpu().numpy()
        return [_heaviest(row, self._keep) for row in weights]


def _heaviest(row: Floats, keep: int) -> SparseVector:
    """The `keep` heaviest terms of a row of weights, without zeros."""
    terms = np.flatnonzero(row)
    if len(terms) > keep:
        terms = np.sort(terms[np.argsort(-row[terms], kind="stable")[:keep]])
    return SparseVector(terms.astype(np.uint32), np.asarray(row[terms], np.float32))


image_text, image_lexicon = (partial(own, "image") for own in (MediaTextEncoder, MediaLexiconEncoder))
