"""`image_text`: vectors of a frozen text encoder, and words, for pictures.

Trains a small network of its own; see `diptych_training.recipes.common.media_text`.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Self

from pydantic import Field, model_validator

from diptych.training import RelativePath
from diptych_adapters.media_text.forms import Picture
from diptych_adapters.media_text.network import MediaTextNetwork, TransformerBody, shape_of
from diptych_adapters.models import resolve
from diptych_training.recipes.common.media_text import MediaText, MediaTextOptions, NetworkOptions


class ImageOptions(NetworkOptions):
    """The network and the pictures that it gets."""

    size: int = Field(48, ge=16, le=512, description="Side length in pixels to which pictures are scaled.")
    start: RelativePath | None = Field(
        None, description="Folder of a picture encoder of recipe `pretrain` to start from; it sets size and width."
    )
    augment: float = Field(0.6, ge=0, le=2, description="Strength of the augmentation: rotation, colour, blur.")

    @model_validator(mode="after")
    def _shape_of_the_start(self) -> Self:
        if self.start is not None and (names := {"size", "width"} & self.model_fields_set):
            raise ValueError(f"{min(names)} comes from start: leave it out")
        return self


class ImageTextOptions(MediaTextOptions):
    """Options of `image_text`."""

    image: ImageOptions = Field(default_factory=ImageOptions)


class ImageText(MediaText[ImageTextOptions]):
    """Trains the network on pictures and their texts."""

    name: ClassVar[str] = "image_text"
    items_noun: ClassVar[str] = "pictures"

    @property
    def form(self) -> Picture:
        """What the network gets of an item."""
        return Picture(self.options.image.size if self.vit is None else self.vit["image_size"])

    @cached_property
    def vit(self) -> dict[str, int] | None:
        """The shape of the encoder that it begins with."""
        start = self.options.image.start
        return None if start is None else shape_of(resolve(str(start)))

    def begin(self, network: MediaTextNetwork) -> None:
        """Take the weights of the encoder that it begins with."""
        if isinstance(network.body, TransformerBody):
            network.body.begin_with(resolve(str(self.options.image.start)))
