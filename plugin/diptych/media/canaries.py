"""Canaries of media: images, sounds and clips that the guard encodes, made by formulas.

They belong to edition 2 of `diptych.slots.canaries`. Like its texts they never change; a new edition may add others.
Sizes, aspect ratios and lengths differ, so that another resizing, cropping or sampling changes at least one vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from diptych.media.values import Content, Sound


def media_canaries(modality: str) -> tuple[Content, ...]:
    """The canaries of a modality, in the form in which encoders get media."""
    return _MAKERS[modality]()


def _images() -> tuple[Content, ...]:
    rows, columns = np.mgrid[0:48, 0:64]
    gradient = np.stack([rows * 5, columns * 3, 255 - rows * 2 - columns], axis=-1)
    rows, columns = np.mgrid[0:57, 0:33]
    checks = np.where(((rows // 7 + columns // 5) % 2 == 0)[..., None], [220, 40, 30], [20, 90, 200])
    rows, columns = np.mgrid[0:224, 0:224]
    inside = (rows - 100) ** 2 + (columns - 130) ** 2 < 3600
    disc = np.where(inside[..., None], [250, 210, 60], [255, 255, 255])
    return tuple(
        picture.astype(np.uint8) for picture in (gradient, checks, disc, _noise(96 * 80 * 3, 256).reshape(96, 80, 3))
    )


def _sounds() -> tuple[Content, ...]:
    def sweep(rate: int, seconds: float) -> NDArray[np.float32]:
        at = np.arange(int(rate * seconds)) / rate
        return (0.6 * np.sin(2 * np.pi * (110 * at + 220 * at * at))).astype(np.float32)

    noise = (_noise(8000, 2001) / 1000 - 1).astype(np.float32) * np.float32(0.2)
    return Sound(sweep(16_000, 1.0), 16_000), Sound(sweep(44_100, 2.5), 44_100), Sound(noise, 8_000)


def _videos() -> tuple[Content, ...]:
    frames = np.full((12, 48, 64, 3), 255, np.uint8)
    for at, frame in enumerate(frames):
        frame[10 + at : 26 + at, 3 * at : 3 * at + 16] = (200, 30, 60)
    return frames, np.ascontiguousarray(frames[::-3])


def _noise(size: int, below: int) -> NDArray[np.int64]:
    """Pseudo-random integers of a linear congruential generator, the same on every machine and release of NumPy."""
    found, state = np.empty(size, np.int64), 12345
    for at in range(size):
        state = (1103515245 * state + 12345) % 2**31
        found[at] = (state >> 8) % below
    return found


_MAKERS: Mapping[str, Callable[[], tuple[Content, ...]]] = {
    "image": _images,
    "sound": _sounds,
    "video": _videos,
}
