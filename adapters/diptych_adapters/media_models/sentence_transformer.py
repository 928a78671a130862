"""Models of sentence-transformers that have pictures and texts in one space."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import numpy as np
from PIL import Image

from diptych.errors import ContractError
from diptych.media import Content
from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.media_models.options import SentenceTransformersImageOptions
from diptych_adapters.media_models.pictures import middle
from diptych_adapters.media_models.readers import PREPROCESSING
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.pipelines.library import find, load, numerics, prompts_of
from diptych_adapters.pipelines.steps import pipeline_steps
from diptych_adapters.pipelines.weight_checks import answers
from diptych_adapters.sentence_transformers import ORGANIZATION, check_dense, unit


class SentenceTransformerImageEncoder:
    """One vector of length 1 for each picture and each text, float32 `[n, dimension]`.

    A string is always a text: the library itself would open one that names a file or an address.

    Raises:
        ModelError: the model cannot be found, or does not read both pictures and texts.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: SentenceTransformersImageOptions) -> None:
        given = options.model_dump(exclude={"truncate_dim", "batch_size"})
        library = SentenceTransformersOptions.model_validate(given)
        folder = find(library, organization=ORGANIZATION)
        check_dense(folder)
        self.name, self._options = folder.name, options
        self._model = load("SentenceTransformer", folder, library, outputs=_trial)
        _check_modalities(self._model.modalities, folder)
        self._lock = threading.Lock()
        self._prompts = prompts_of(self._model, library)
        folders = folder.module_folders()
        self._digests = fingerprints.digests(folders)
        self._processing = _processing(folder)
        self.dimension: int = options.truncate_dim or 0
        full = self._by_library([{"text": "a"}], "").shape[1]
        if self.dimension > full:
            what = f"truncate_dim is more than model {self.name!r} has"
            raise ModelError(what, got=self.dimension, expected=f"at most {full}")
        self.dimension = self.dimension or full

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The adapter from its options as keywords, as a config file gives them."""
        return cls(SentenceTransformersImageOptions(**options))

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        processor = type(getattr(self._model.processor, "image_processor", self._model.processor)).__name__
        return fingerprints.fingerprint(
            weights=self._digests.weights,
            tokenizer=self._digests.tokenizer,
            pooling=[*pipeline_steps(self._model), "normalize", f"image({self._processing})"],
            prompts=self._prompts,
            max_length=self._model.max_seq_length,
            dimension=self.dimension,
            numerics=f"{numerics(self._model)} {'pillow' if processor.endswith('Pil') else 'torchvision'}",
        )

    def encode_query(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of queries, texts and pictures mixed, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[0])

    def encode_document(self, inputs: Sequence[str | Content]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        return self._encode(inputs, self._prompts[1])

    def _encode(self, inputs: Sequence[str | Content], prompt: str) -> Floats:
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        named = [self._named(item) for item in inputs]
        for kind in ("text", "image"):
            places = [at for at, item in enumerate(named) if kind in item]
            if places:
                vectors[places] = unit(self._by_library([named[at] for at in places], prompt)[:, : self.dimension])
        return vectors

    def _named(self, item: str | Content) -> dict[str, Any]:
        """An input with its kind, so that the library guesses nothing from a string."""
        if isinstance(item, str):
            return {"text": item}
        if isinstance(item, np.ndarray) and item.ndim == 3:
            return {"image": Image.fromarray(middle(item))}
        raise ContractError(
            "adapter sentence-transformers-image does not read this",
            where=f"model {self.name!r}",
            got=type(item).__name__ if not isinstance(item, np.ndarray) else f"an array {list(item.shape)}",
            expected="texts and pictures, uint8 [height, width, 3]",
            do="set `of: image` in the slot, or use an adapter for what the slot reads",
        )

    def _by_library(self, inputs: list[dict[str, Any]], prompt: str) -> Floats:
        """The library's vectors of inputs of one kind, with all dimensions."""
        with self._lock:
            vectors = self._model.encode(
                inputs, prompt=prompt, batch_size=self._options.batch_size, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


def _trial(model: Any) -> Iterator[Any]:
    """What the model makes of a word and, if it reads pictures, of a picture."""
    inputs: list[dict[str, Any]] = [{"text": "word"}, {"image": Image.new("RGB", (48, 32), (128, 128, 128))}]
    for item in inputs:
        if not {*item} - {*model.modalities}:
            yield from answers(model, [item])


def _check_modalities(modalities: Sequence[Any], folder: ModelFolder) -> None:
    if {"text", "image"} <= set(modalities):
        return
    adapter = "sentence-transformers" if "text" in modalities else "transformers-media, modality: image"
    raise ModelError(
        f"model {folder.name!r} does not read both pictures and texts",
        where=folder.path,
        got=", ".join(map(str, modalities)),
        expected="text and image",
        do=f"use adapter: {adapter}",
    )


def _processing(folder: ModelFolder) -> str:
    """A digest of how the folder's modules make pictures their input."""
    found = []
    for part in folder.module_folders():
        whole = cast(dict[str, Any], fingerprints.read_json(part / "processor_config.json"))
        saved = whole.get("image_processor") or fingerprints.read_json(part / "preprocessor_config.json")
        found.append({key: saved[key] for key in PREPROCESSING if saved.get(key) is not None})
    return fingerprints.digest(found)[: fingerprints.DIGITS]
