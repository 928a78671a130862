"""Training inputs varied at random: pictures, clips, spectrograms and descriptors, as their forms normalize them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

GREY = (0.299, 0.587, 0.114)  # brightness of red, green and blue
Variation = Callable[[Tensor, float], Tensor]


def augment_pictures(pixels: Tensor, strength: float) -> Tensor:
    """Pictures turned, scaled, shifted, recoloured, blurred and partly covered at random, as another artist might.

    Args:
        pixels: float32 `[n, 3, size, size]` from -1 to 1.
        strength: 0 leaves them as they are; 1 turns by up to 20 degrees and scales by up to a quarter.
    """
    if strength == 0:
        return pixels
    return _Changes.drawn(len(pixels), strength, pixels.device).made(pixels)


def augment_clips(clips: Tensor, strength: float) -> Tensor:
    """Clips `[n, frames, 3, size, size]`, all frames of one varied alike; see `augment_pictures`."""
    if strength == 0:
        return clips
    frames = clips.shape[1]
    changes = _Changes.drawn(len(clips), strength, clips.device)
    repeated = _Changes(*(change.repeat_interleave(frames, 0) for change in changes))
    return repeated.made(clips.flatten(0, 1)).view(clips.shape)


class _Changes(NamedTuple):
    """What is done to `n` pictures.

    Args:
        places: `[n, 2, 3]`, where their pixels come from.
        contrast, brightness, saturation, blur: `[n, 1, 1, 1]`.
        mix: `[n, 3, 3]`, of colours.
    """

    places: Tensor
    contrast: Tensor
    brightness: Tensor
    mix: Tensor
    saturation: Tensor
    blur: Tensor

    @classmethod
    def drawn(cls, n: int, strength: float, device: torch.device) -> Self:
        """Changes at random."""

        def drawn(*shape: int) -> Tensor:
            return (torch.rand(n, *shape, device=device) * 2 - 1) * strength

        angle, scale = drawn() * 0.35, (drawn(2) * 0.25).exp()
        cosine, sine = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1) * scale[:, None]
        return cls(
            torch.cat([turn, drawn(2, 1) * 0.15], 2),
            (drawn(1, 1, 1) * 0.4).exp(),
            drawn(1, 1, 1) * 0.2,
            torch.eye(3, device=device) + drawn(3, 3) * 0.15,
            1 + drawn(1, 1, 1) * 0.6,
            torch.rand(n, 1, 1, 1, device=device) * strength,
        )

    def made(self, pixels: Tensor) -> Tensor:
        """The pictures with these changes."""
        grid = nn.functional.affine_grid(self.places, list(pixels.shape), align_corners=False)
        moved = nn.functional.grid_sample(pixels - 1, grid, align_corners=False) + 1  # white is 1, as is what moves in
        coloured = torch.einsum("nij,njhw->nihw", self.mix, moved - 1) + 1
        grey = (coloured * torch.tensor(GREY, device=pixels.device)[None, :, None, None]).sum(1, keepdim=True)
        coloured = (grey + (coloured - grey) * self.saturation) * self.contrast + self.brightness
        blurred = nn.functional.avg_pool2d(coloured, 3, 1, 1, count_include_pad=False)
        return (coloured + (blurred - coloured) * self.blur).clamp(-1, 1)


def augment_spectrograms(spectrograms: Tensor, strength: float) -> Tensor:
    """Spectrograms `[n, 1, bands, frames]` moved in pitch and time, louder or softer, and partly silenced.

    Args:
        spectrograms: float32 from -1, silence, to 1.
        strength: 0 leaves them as they are; 1 moves by up to an eighth of the bands and frames.
    """
    if strength == 0:
        return spectrograms
    n, device = len(spectrograms), spectrograms.device
    moves = (torch.rand(n, 2, device=device) * 2 - 1) * strength / 8
    grid = torch.zeros(n, 2, 3, device=device)
    grid[:, 0, 0] = grid[:, 1, 1] = 1
    grid[:, 0, 2], grid[:, 1, 2] = 2 * moves[:, 0], 2 * moves[:, 1]
    places = nn.functional.affine_grid(grid, list(spectrograms.shape), align_corners=False)
    moved = nn.functional.grid_sample(spectrograms + 1, places, align_corners=False)  # what moves in is silent
    gain = 1 + (torch.rand(n, 1, 1, 1, device=device) * 2 - 1) * strength * 0.2
    start, size = torch.rand(2, n, 1, device=device)
    band = torch.linspace(0, 1, spectrograms.shape[2], device=device)[None]
    silenced = (band >= start) & (band < start + size * strength * 0.2)
    loud: Tensor = moved * gain * ~silenced[:, None, :, None]
    return loud.clamp(0, 2) - 1


def augment_vectors(vectors: Tensor, strength: float) -> Tensor:
    """Vectors `[n, numbers]` with noise, a tenth of their spread at strength 1."""
    spread = vectors.std(0, correction=0) if len(vectors) > 1 else torch.zeros_like(vectors[0])
    return vectors + torch.randn_like(vectors) * spread * 0.1 * strength


VARIATIONS: Mapping[str, Variation] = {
    "image": augment_pictures,
    "video": augment_clips,
    "sound": augment_spectrograms,
    "points": augment_vectors,
}
