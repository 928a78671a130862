"""`video_text`: a small network learns a frozen text encoder's vectors of clips, and words that describe them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from diptych_adapters.media_text.forms import Clip
from diptych_training.recipes.common.media_text import MediaText, MediaTextOptions, NetworkOptions


class VideoOptions(NetworkOptions):
    """The network and the frames that it gets."""

    size: int = Field(48, ge=16, le=512, description="Pixels a side to which frames are scaled.")
    frames: int = Field(4, ge=1, le=64, description="Of a clip, evenly spaced from its first to its last.")
    augment: float = Field(
        0.6, ge=0, le=2, description="Strength of the augmentation: turning, recolouring, blurring, as of pictures."
    )


class Options(MediaTextOptions):
    """Options of `video_text`."""

    video: VideoOptions = Field(default_factory=VideoOptions)


class VideoText(MediaText[Options]):
    """Trains the network on clips and their texts."""

    name: ClassVar[str] = "video_text"
    items_noun: ClassVar[str] = "clips"

    @property
    def form(self) -> Clip:
        """What the network gets of an item."""
        return Clip(self.options.video.size, self.options.video.frames)

    @property
    def network(self) -> NetworkOptions:
        """The width of the network, and the strength of the augmentation."""
        return self.options.video
