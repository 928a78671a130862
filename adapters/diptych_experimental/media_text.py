"""`sound_text`, `video_text`: what `image_text` trains, for sounds and clips."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from diptych_experimental.media_forms import FRAMES_A_SECOND, Clip, Spectrogram
from diptych_training.data.media_items import Changes
from diptych_training.options import Positive
from diptych_training.recipes.media_text import MediaText, MediaTextOptions, NetworkOptions


def augment_clips(clips: Tensor, strength: float) -> Tensor:
    """Clips `[n, frames, 3, size, size]`, all frames of one varied alike; see `augment_pictures`."""
    if strength == 0:
        return clips
    frames = clips.shape[1]
    changes = Changes.drawn(len(clips), strength, clips.device)
    repeated = Changes(*(change.repeat_interleave(frames, 0) for change in changes))
    return repeated.made(clips.flatten(0, 1)).view(clips.shape)


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


class SoundOptions(NetworkOptions):
    """The network and the spectrograms that it gets."""

    rate: int = Field(16_000, ge=1000, le=96_000, description="Sample rate in Hz to which sounds are resampled.")
    seconds: float = Field(2.0, gt=0, le=60, description="Seconds per spectrogram; longer sounds have several.")
    bands: int = Field(64, ge=16, le=256, description="Mel bands, from 30 Hz to half the sample rate.")
    width: Positive = Field(16, description="Channels of the first layer; three stages double them.")
    augment: float = Field(
        0.6, ge=0, le=2, description="Strength of the augmentation: pitch, start, loudness, silenced bands."
    )


class SoundTextOptions(MediaTextOptions):
    """Options of `sound_text`."""

    sound: SoundOptions = Field(default_factory=SoundOptions)


class SoundText(MediaText[SoundTextOptions]):
    """Trains the network on sounds and their texts."""

    name: ClassVar[str] = "sound_text"
    items_noun: ClassVar[str] = "sounds"
    varied = staticmethod(augment_spectrograms)

    @property
    def form(self) -> Spectrogram:
        """What the network gets of an item."""
        sound = self.options.sound
        return Spectrogram(sound.rate, max(8, round(sound.seconds * FRAMES_A_SECOND)), sound.bands)


class VideoOptions(NetworkOptions):
    """The network and the frames that it gets."""

    size: int = Field(48, ge=16, le=512, description="Side length in pixels to which frames are scaled.")
    frames: int = Field(4, ge=1, le=64, description="Frames of a clip, evenly spaced from the first to the last.")
    augment: float = Field(
        0.6, ge=0, le=2, description="Strength of the augmentation: rotation, colour, blur, as for pictures."
    )


class VideoTextOptions(MediaTextOptions):
    """Options of `video_text`."""

    video: VideoOptions = Field(default_factory=VideoOptions)


class VideoText(MediaText[VideoTextOptions]):
    """Trains the network on clips and their texts."""

    name: ClassVar[str] = "video_text"
    items_noun: ClassVar[str] = "clips"
    varied = staticmethod(augment_clips)

    @property
    def form(self) -> Clip:
        """What the network gets of an item."""
        return Clip(self.options.video.size, self.options.video.frames)
