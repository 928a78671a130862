"""Sounds and clips as inputs of the networks of `media-text`, and its adapters for them.

The import adds both forms to `diptych_adapters.media_text.network.FORMS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diptych.media import Content, Sound
from diptych.types import Floats
from diptych_adapters.media_models.readers import resampled
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder
from diptych_adapters.media_text.network import FORMS, convolutional, fitted, refused

FRAMES_A_SECOND = 32
WINDOW_SECONDS = 0.064  # of the Fourier transform, rounded to a power of two of samples
RANGE = 80.0  # decibels below the loudest moment that still differ
LOWEST = 30.0  # Hz
SLOWEST = 1000  # samples a second


@dataclass(frozen=True, slots=True)
class Spectrogram:
    """Sounds as spectrograms, uint8 `[1, bands, frames]`; a longer sound has several.

    Args:
        rate: samples a second to which sounds are resampled.
        frames: of a spectrogram, 32 a second.
        bands: of the mel scale.
    """

    of: ClassVar[str] = "sound"
    rate: int
    frames: int
    bands: int

    def __post_init__(self) -> None:
        if self.rate < SLOWEST or self.frames < 1 or self.bands < 1:
            raise ValueError(f"rate {self.rate}, frames {self.frames}, bands {self.bands}")

    def parts(self, content: Content) -> list[Tensor]:
        """A spectrogram for each window."""
        if not isinstance(content, Sound) or not len(content.samples):
            raise refused("a sound", content, "diptych.media.Sound with samples")
        return spectrograms(content, self.rate, self.frames, self.bands)

    def body(self, width: int) -> tuple[nn.Module, int]:
        """Convolutions."""
        return convolutional(1, width)


@dataclass(frozen=True, slots=True)
class Clip:
    """Evenly spaced frames of clips, uint8 `[frames, 3, size, size]`. A picture is a clip that stands still.

    Args:
        size: pixels a side.
        frames: of a clip.
    """

    of: ClassVar[str] = "video"
    size: int
    frames: int

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames {self.frames}")

    def parts(self, content: Content) -> list[Tensor]:
        """The frames, from the first to the last; if a clip has fewer, frames are repeated."""
        if isinstance(content, np.ndarray) and content.ndim == 3:
            return [fitted(content, self.size).expand(self.frames, -1, -1, -1)]
        if not isinstance(content, np.ndarray) or content.ndim != 4 or not len(content):
            raise refused("a clip", content, "uint8 [frames, height, width, 3]")
        chosen = np.linspace(0, len(content) - 1, self.frames).round().astype(int)
        frames = {place: fitted(content[place], self.size) for place in dict.fromkeys(chosen.tolist())}
        return [torch.stack([frames[place] for place in chosen.tolist()])]

    def body(self, width: int) -> tuple[nn.Module, int]:
        """Convolutions over the frames."""
        body = Frames(width)
        return body, body.features


class Frames(nn.Module):
    """A body of pictures over the frames of clips: the mean of the frames' features, and how much they change.

    A frame equal to the one before goes through the network once, so a still costs as much as a picture.

    Args:
        width: of the body; see `convolutional`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frame, features = convolutional(3, width)
        self.features = 2 * features

    def forward(self, clips: Tensor) -> Tensor:
        """Features `[n, features]` of clips `[n, frames, 3, height, width]`."""
        changed = (clips[:, 1:] != clips[:, :-1]).flatten(2).any(2)
        new = torch.cat([changed.new_ones(len(clips), 1), changed], 1).flatten()
        frames = clips.flatten(0, 1)[new].contiguous(memory_format=torch.channels_last)
        features = self.frame(frames)[new.cumsum(0) - 1].unflatten(0, clips.shape[:2])
        change = (features[:, 1:] - features[:, :-1]).abs().mean(1) if clips.shape[1] > 1 else features[:, 0] * 0
        return torch.cat([features.mean(1), change], 1)


def spectrograms(sound: Sound, rate: int, frames: int, bands: int) -> list[Tensor]:
    """Windows of a sound as uint8 `[1, bands, frames]`: 255 at the sound's loudest, 0 at 80 decibels below it.

    A shorter sound is followed by silence. The last window of a longer one ends with the sound.

    Args:
        sound: of any rate and length.
        rate: to which it is resampled.
        frames: of a window, 32 a second.
        bands: of the mel scale.
    """
    samples, hop = resampled(sound, rate), rate // FRAMES_A_SECOND
    length = frames * hop
    starts = [*range(0, len(samples) - length, length), max(0, len(samples) - length)]
    powers = [_power(samples[start : start + length], rate, frames, bands) for start in starts]
    loudest = max(float(power.max()) for power in powers)
    return [_decibels(power, loudest)[None] for power in powers]


def _power(window: Floats, rate: int, frames: int, bands: int) -> Tensor:
    hop, size = rate // FRAMES_A_SECOND, 2 ** round(np.log2(rate * WINDOW_SECONDS))
    padded = torch.from_numpy(np.pad(window, (0, frames * hop - len(window))).astype(np.float32))
    spectrum = torch.stft(padded, size, hop, window=torch.hann_window(size), pad_mode="constant", return_complex=True)
    return _filters(rate, size, bands) @ spectrum.abs().square()[:, :frames]


def _decibels(power: Tensor, loudest: float) -> Tensor:
    """Power as uint8; all 0 for silence."""
    if loudest <= 0:
        return torch.zeros(power.shape, dtype=torch.uint8)
    decibels = 10 * torch.log10((power / loudest).clamp(min=10 ** (-RANGE / 10)))
    return ((decibels / RANGE + 1) * 255).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=8)
def _filters(rate: int, size: int, bands: int) -> Tensor:
    """Triangles over the bins of a Fourier transform, evenly spaced on the mel scale, `[bands, size // 2 + 1]`."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, rate / 2))
    mels = np.linspace(low, high, bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)  # the mel scale of O'Shaughnessy (1987), and back to Hz
    bins = np.linspace(0, rate / 2, size // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    nearest = np.abs(edges[1:-1, None] - bins).argmin(axis=1)  # for bands narrower than the distance of the bins
    empty = triangles.sum(axis=1) == 0
    triangles[empty, nearest[empty]] = 1
    return torch.from_numpy((triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32))


FORMS |= {"sound": Spectrogram, "video": Clip}
sound_text, sound_lexicon = (partial(own, "sound") for own in (MediaTextEncoder, MediaLexiconEncoder))
video_text, video_lexicon = (partial(own, "video") for own in (MediaTextEncoder, MediaLexiconEncoder))
