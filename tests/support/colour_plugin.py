"""A plugin for tests: real, tiny encoders of pictures and words, by the colours in them; sounds by their pitch."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from diptych import AdapterSpec, SparseVector, hookimpl
from diptych.media import Sound

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "yellow": (240, 220, 40)}


def uri(colour: str) -> str:
    """A small picture of one colour, as a data: URI."""
    file = io.BytesIO()
    Image.new("RGB", (6, 6), COLOURS[colour]).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Colours:
    """A picture is the mean colour of each cell of a grid; a text that of the colours that it names, in every cell."""

    similarity = "cosine"

    def __init__(self, grid: int = 2) -> None:
        self.grid, self.dimension = grid, 3 * grid * grid

    def encode_query(self, inputs: Sequence[Any]) -> Any:
        rows = [self._text(given) if isinstance(given, str) else self._picture(given) for given in inputs]
        return np.array(rows, np.float32).reshape(-1, self.dimension)

    encode_document = encode_query

    def _text(self, text: str) -> Any:
        named = [COLOURS[word] for word in text.lower().split() if word in COLOURS] or [(128, 128, 129)]
        return np.tile(np.mean(named, axis=0) - 127.5, self.grid**2).astype(np.float32)

    def _picture(self, pixels: Any) -> Any:
        assert pixels.dtype == np.uint8, "diptych decodes pictures"
        pixels = pixels.repeat(self.grid, axis=0).repeat(self.grid, axis=1)  # a pixel for each cell at least
        cells = [
            part.reshape(-1, 3).mean(axis=0)
            for rows in np.array_split(pixels, self.grid)
            for part in np.array_split(rows, self.grid, axis=1)
        ]
        return (np.concatenate(cells) - 127.5).astype(np.float32)


class ColourWords:
    """A picture as a sparse vector over the words of colours, by how near each is."""

    dimension, uses_idf = len(COLOURS), False

    def encode_query(self, inputs: Sequence[Any]) -> list[SparseVector]:
        return [self._text(given) if isinstance(given, str) else self._picture(given) for given in inputs]

    encode_document = encode_query

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        words = [(list(COLOURS)[i], float(v)) for i, v in zip(vector.indices, vector.values, strict=True)]
        return sorted(words, key=lambda own: -own[1])[:top_k]

    def _text(self, text: str) -> SparseVector:
        return SparseVector.from_mapping({n: 1.0 for n, word in enumerate(COLOURS) if word in text.lower().split()})

    def _picture(self, pixels: Any) -> SparseVector:
        mean = pixels.reshape(-1, 3).mean(axis=0)
        near = {n: 1 - float(np.abs(mean - colour).mean()) / 255 for n, colour in enumerate(COLOURS.values())}
        return SparseVector.from_mapping({n: value for n, value in near.items() if value > 0.5})


class Pitches:
    """A sound as its spectrum in forty bands."""

    dimension, similarity = 40, "cosine"

    def encode_query(self, inputs: Sequence[Any]) -> Any:
        return np.array([self._row(given) for given in inputs], np.float32).reshape(-1, self.dimension)

    encode_document = encode_query

    def _row(self, sound: Sound) -> Any:
        power = np.abs(np.fft.rfft(sound.samples, n=sound.rate))[: 40 * 50]
        return np.array([band.sum() for band in np.array_split(power, 40)], np.float32)


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    def spec(name: str, kind: Any, made: str, *accepts: str) -> AdapterSpec:
        return AdapterSpec(name=name, kind=kind, factory=f"{__name__}:{made}", summary="tests", accepts=accepts)

    return [
        spec("colours", "dense", "Colours", "image", "text"),
        spec("pictures-alone", "dense", "Colours", "image"),
        spec("colour-words", "sparse", "ColourWords", "image", "text"),
        spec("pitches", "dense", "Pitches", "sound"),
    ]
