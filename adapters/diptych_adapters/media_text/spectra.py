"""Sounds as pictures: spectrograms over the mel scale, in decibels below the loudest moment."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.media import Sound
from diptych.types import Floats

FRAMES_A_SECOND = 32
WINDOW_SECONDS = 0.064  # of the Fourier transform, rounded to a power of two of samples
RANGE = 80.0  # decibels below the loudest moment that still differ
LOWEST = 30.0  # Hz


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
