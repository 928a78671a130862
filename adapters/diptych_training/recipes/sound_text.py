"""`sound_text`: a small network learns a frozen text encoder's vectors of sounds, and words that describe them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from diptych_adapters.media_text.forms import Spectrogram
from diptych_adapters.media_text.spectra import FRAMES_A_SECOND
from diptych_training.options import Positive
from diptych_training.recipes.common.media_text import MediaText, MediaTextOptions, NetworkOptions


class SoundOptions(NetworkOptions):
    """The network and the spectrograms that it gets."""

    rate: int = Field(16_000, ge=1000, le=96_000, description="Samples a second to which sounds are resampled.")
    seconds: float = Field(2.0, gt=0, le=60, description="Of a spectrogram; a longer sound has several.")
    bands: int = Field(64, ge=16, le=256, description="Of the mel scale, from 30 Hz to half the rate.")
    width: Positive = Field(16, description="Channels of the first layer; three stages double them.")
    augment: float = Field(
        0.6, ge=0, le=2, description="Strength of the augmentation: other pitch, begin and loudness, silenced bands."
    )


class Options(MediaTextOptions):
    """Options of `sound_text`."""

    sound: SoundOptions = Field(default_factory=SoundOptions)


class SoundText(MediaText[Options]):
    """Trains the network on sounds and their texts."""

    name: ClassVar[str] = "sound_text"
    items_noun: ClassVar[str] = "sounds"

    @property
    def form(self) -> Spectrogram:
        """What the network gets of an item."""
        sound = self.options.sound
        return Spectrogram(sound.rate, max(8, round(sound.seconds * FRAMES_A_SECOND)), sound.bands)

    @property
    def network(self) -> NetworkOptions:
        """The width of the network, and the strength of the augmentation."""
        return self.options.sound
