"""The input forms of a network: a picture of fixed size, spectrograms of a sound, frames of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diptych.media import Content, Sound
from diptych.types import Floats
from diptych_adapters.models import ModelError

FRAMES_A_SECOND = 32
WINDOW_SECONDS = 0.064  # of the Fourier transform, rounded to a power of two of samples
RANGE = 80.0  # decibels below the loudest moment that still differ
LOWEST = 30.0  # Hz

GRID = 3  # cells a side that the last feature map is averaged into: flags differ by where their colours are

WHITE = 255
SLOWEST = 1000  # samples a second


class Form(Protocol):
    """The input of a network. Its fields are whole numbers and are saved with the model."""

    of: ClassVar[str]

    def parts(self, content: Content) -> list[Tensor]:
        """An item as one or more tensors, all of one shape; the vectors of several are averaged.

        Raises:
            ModelError: it is not an item of this modality.
        """
        ...

    def normalized(self, parts: Tensor) -> Tensor:
        """Stacked parts as the body wants them, float32."""
        ...

    def body(self, width: int) -> tuple[nn.Module, int]:
        """The first half of the network, and how many features it makes."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """Pictures, padded with white to a square and scaled: uint8 `[3, size, size]`.

    Args:
        size: pixels a side.
    """

    of: ClassVar[str] = "image"
    size: int

    def parts(self, content: Content) -> list[Tensor]:
        """The picture."""
        return [fitted(content, self.size)]

    def normalized(self, parts: Tensor) -> Tensor:
        """From -1 to 1."""
        return parts.float() / 127.5 - 1

    def body(self, width: int) -> tuple[nn.Module, int]:
        """Convolutions."""
        return convolutional(3, width)


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
            raise _refused("a sound", content, "diptych.media.Sound with samples")
        return spectrograms(content, self.rate, self.frames, self.bands)

    def normalized(self, parts: Tensor) -> Tensor:
        """From -1 to 1."""
        return parts.float() / 127.5 - 1

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
            raise _refused("a clip", content, "uint8 [frames, height, width, 3]")
        chosen = np.linspace(0, len(content) - 1, self.frames).round().astype(int)
        frames = {place: fitted(content[place], self.size) for place in dict.fromkeys(chosen.tolist())}
        return [torch.stack([frames[place] for place in chosen.tolist()])]

    def normalized(self, parts: Tensor) -> Tensor:
        """From -1 to 1."""
        return parts.float() / 127.5 - 1

    def body(self, width: int) -> tuple[nn.Module, int]:
        """Convolutions over the frames."""
        body = Frames(width)
        return body, body.features


FORMS: Mapping[str, type[Picture | Spectrogram | Clip]] = {own.of: own for own in (Picture, Spectrogram, Clip)}


def fitted(image: Content, size: int) -> Tensor:
    """A picture uint8 `[height, width, 3]` as uint8 `[3, size, size]`: padded with white to a square, then scaled."""
    wrong = not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8
    if not isinstance(image, np.ndarray) or wrong or not image.size:
        raise _refused("a picture", image, "uint8 [height, width, 3]")
    height, width, _ = image.shape
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: torch wants arrays that can be written
    if height != width:
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        pixels = nn.functional.pad(pixels, (left, side - width - left, top, side - height - top), value=WHITE)
    if pixels.shape[1] == size:
        return pixels
    scaled = nn.functional.interpolate(pixels[None].float(), (size, size), mode="bilinear", antialias=True)[0]
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _refused(what: str, content: Any, expected: str) -> ModelError:
    got = f"{content.dtype} {list(content.shape)}" if isinstance(content, np.ndarray) else type(content).__name__
    return ModelError(f"not {what}", where="a model of media and texts", got=got, expected=expected)


def convolutional(given: int, width: int) -> tuple[nn.Sequential, int]:
    """Three stages of convolutions over `[n, given, height, width]`, and how many features they make.

    Args:
        given: channels of the input.
        width: channels of the first stage; each stage doubles them.
    """
    channels = [width, 2 * width, 4 * width]
    body = nn.Sequential(
        _convolution(given, channels[0], kernel=5, stride=2),
        Residual(channels[0]),
        _convolution(channels[0], channels[1], stride=2),
        Residual(channels[1]),
        _convolution(channels[1], channels[2], stride=2),
        Residual(channels[2]),
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
    )
    return body, channels[2] * GRID * GRID


class Residual(nn.Module):
    """Two convolutions whose result is added to their input.

    Args:
        channels: of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """A feature map of the same shape."""
        return torch.relu(features + self.inner(features))


def _convolution(given: int, channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(given, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


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


def resampled(sound: Sound, rate: int) -> Floats:
    """The samples at another rate, by a polyphase filter; float32 `[n]`."""
    if sound.rate == rate:
        return sound.samples
    from scipy.signal import resample_poly

    divisor = gcd(sound.rate, rate)
    return np.asarray(resample_poly(sound.samples, rate // divisor, sound.rate // divisor), np.float32)


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
    edges = _hertz(np.linspace(_mel(LOWEST), _mel(rate / 2), bands + 2))
    bins = np.linspace(0, rate / 2, size // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    nearest = np.abs(edges[1:-1, None] - bins).argmin(axis=1)  # for bands narrower than the distance of the bins
    empty = triangles.sum(axis=1) == 0
    triangles[empty, nearest[empty]] = 1
    return torch.from_numpy((triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32))


def _mel(hertz: float) -> float:
    """The mel scale of O'Shaughnessy (1987)."""
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mels / 2595) - 1))
