"""Readers turn texts and media into the input of a model, one reader for each kind of input.

A reader gives one or more `Part`s for an input: a sound that is longer than the model reads becomes several windows,
whose vectors are averaged by length. Nothing is padded to the longest input of a batch, so a vector does not depend on
the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, gcd
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.media import Sound
from diptych.types import Floats
from diptych_adapters.pipelines import fingerprints

if TYPE_CHECKING:
    import torch  # FastEmbed's pictures need none

WIDEST = 16  # times as long as wide: of longer pictures the middle is read, since resizing would make them huge

SECONDS = 30  # of a window, for models that read sounds of any length
SHORTEST = 0.1  # seconds: shorter sounds are followed by silence
PREPROCESSING = (  # what decides a model's input, picked here since the libraries add to their configurations
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_convert_rgb"),
    *("do_rescale", "rescale_factor", "offset", "do_normalize", "image_mean", "image_std"),
    *("sampling_rate", "feature_size", "n_fft", "fft_window_size", "hop_length", "chunk_length", "max_length_s"),
    *("padding", "padding_value", "truncation", "frequency_min", "frequency_max", "top_db"),
    *("max_length", "num_mel_bins", "mean", "std", "dither"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Some or all of an input.

    Args:
        features: the model's arguments, tensors `[1, ...]`.
        weight: its share of the input's vector.
        length: how many of the model's frames belong to the input and not to padding; None for all.
    """

    features: Mapping[str, torch.Tensor]
    weight: float = 1.0
    length: int | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """Parts of equal shape go through the model together."""
        return tuple((name, tensor.shape) for name, tensor in self.features.items())


class Reader(Protocol):
    """Reads one kind of input; `digest` says what decides the features beside the model's weights."""

    digest: str

    def parts(self, content: Any) -> Iterator[Part]:
        """The parts of one input."""
        ...


class Texts:
    """Reads texts by the model's tokenizer.

    Args:
        tokenizer: of transformers.
        positions: tokens that the model reads.
        padded: whether the model was trained on texts padded to all positions, as SigLIP was.
    """

    def __init__(self, tokenizer: Any, positions: int, *, padded: bool) -> None:
        self.max_length = min(positions, int(tokenizer.model_max_length))
        self._tokenizer, self._padding = tokenizer, "max_length" if padded else False
        self.digest = f"{self._padding}"

    def parts(self, content: str) -> Iterator[Part]:
        """The tokens of a text, cut after `max_length`."""
        features = self._tokenizer(
            [content], truncation=True, max_length=self.max_length, padding=self._padding, return_tensors="pt"
        )
        yield Part({name: features[name] for name in ("input_ids", "attention_mask") if name in features})


class Pictures:
    """Reads pictures, uint8 `[height, width, 3]`, by the model's image processor."""

    def __init__(self, processor: Any) -> None:
        self._processor, self.digest = processor, _digest(processor)
        self._by_edge = _by_edge(processor)

    def parts(self, content: NDArray[np.uint8]) -> Iterator[Part]:
        """One part."""
        pictures = [_picture(content, by_edge=self._by_edge)]
        yield Part({"pixel_values": self._processor(images=pictures, return_tensors="pt")["pixel_values"]})


class Clips:
    """Reads clips, uint8 `[frames, height, width, 3]`: `frames` of them, at equal distances from first to last."""

    def __init__(self, processor: Any, frames: int) -> None:
        self._processor, self._frames, self.digest = processor, frames, f"{frames}-{_digest(processor)}"
        self._by_edge = _by_edge(processor)

    def parts(self, content: NDArray[np.uint8]) -> Iterator[Part]:
        """One part; if a clip has too few frames, they are repeated."""
        chosen = np.linspace(0, len(content) - 1, self._frames).round().astype(int)
        frames = [_picture(content[at], by_edge=self._by_edge) for at in chosen]
        features = self._processor(frames, return_tensors="pt", input_data_format="channels_last")
        yield Part({"pixel_values": features["pixel_values"]})


class Sounds:
    """Reads sounds by the model's feature extractor, resampled to its rate, in windows of what the model reads."""

    def __init__(self, extractor: Any) -> None:
        self._extractor, self.rate = extractor, int(extractor.sampling_rate)
        self._window = _window(extractor, self.rate)
        self._name = extractor.model_input_names[0]
        self._frame = 2 * int(getattr(extractor, "hop_length", 160))  # samples of a frame of Whisper's encoder
        self._fixed = hasattr(extractor, "nb_max_frames")
        self.digest = f"{self._window}-{_digest(extractor)}"

    def parts(self, content: Sound) -> Iterator[Part]:
        """A part for each window."""
        samples = resampled(content, self.rate)
        for start in range(0, max(1, len(samples)), self._window):
            window = samples[start : start + self._window]
            length = max(1, ceil(len(window) / self._frame)) if self._fixed else None
            whole = np.pad(window, (0, max(0, ceil(SHORTEST * self.rate) - len(window))))
            made = self._extractor(whole, sampling_rate=self.rate, return_tensors="pt")
            features = {name: made[name] for name in (self._name, "is_longer") if name in made}
            yield Part(features, weight=max(1, len(window)), length=length)


def _by_edge(processor: Any) -> bool:
    """Whether pictures are resized by their shorter edge, so that the longer edge may become huge."""
    return "shortest_edge" in dict(processor.to_dict().get("size") or {})


def _picture(pixels: NDArray[np.uint8], *, by_edge: bool) -> Image.Image:
    return Image.fromarray(middle(pixels) if by_edge else pixels)


def _window(extractor: Any, rate: int) -> int:
    """Samples that the model reads at once."""
    if hasattr(extractor, "nb_max_samples"):  # CLAP
        return int(extractor.nb_max_samples)
    if hasattr(extractor, "n_samples"):  # Whisper
        return int(extractor.n_samples)
    if hasattr(extractor, "num_mel_bins"):  # the audio spectrogram transformer, which reads a frame each 10 ms
        return int(extractor.max_length) * rate // 100
    return SECONDS * rate


def _digest(processor: Any) -> str:
    saved = processor.to_dict()
    return fingerprints.digest({key: saved[key] for key in PREPROCESSING if saved.get(key) is not None})[
        : fingerprints.DIGITS
    ]


def middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a picture that is more than `WIDEST` times as long as it is wide; else the picture itself."""
    height, width = picture.shape[:2]
    limit = WIDEST * min(height, width)
    top, left = max(0, (height - limit) // 2), max(0, (width - limit) // 2)
    return np.ascontiguousarray(picture[top : top + limit, left : left + limit])


def resampled(sound: Sound, rate: int) -> Floats:
    """The samples at another rate, by a polyphase filter; float32 `[n]`."""
    if sound.rate == rate:
        return sound.samples
    from scipy.signal import resample_poly

    divisor = gcd(sound.rate, rate)
    return np.asarray(resample_poly(sound.samples, rate // divisor, sound.rate // divisor), np.float32)
