"""`points_text`: a small network learns a frozen text encoder's vectors of point clouds, and words for them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from diptych_adapters.media_text.forms import Cloud
from diptych_training.options import Positive
from diptych_training.recipes.common.media_text import MediaText, MediaTextOptions, NetworkOptions


class PointsOptions(NetworkOptions):
    """The network and the descriptors that it gets."""

    shells: int = Field(8, ge=1, le=32, description="Distances from the centre that are told apart.")
    degrees: int = Field(12, ge=0, le=32, description="How finely directions are told apart.")
    width: Positive = Field(16, description="A sixteenth of the units of both layers.")
    augment: float = Field(0.6, ge=0, le=2, description="Strength of the augmentation: noise.")


class Options(MediaTextOptions):
    """Options of `points_text`."""

    points: PointsOptions = Field(default_factory=PointsOptions)


class PointsText(MediaText[Options]):
    """Trains the network on point clouds and their texts."""

    name: ClassVar[str] = "points_text"
    items_noun: ClassVar[str] = "point clouds"

    @property
    def form(self) -> Cloud:
        """What the network gets of an item."""
        return Cloud(self.options.points.shells, self.options.points.degrees)

    @property
    def network(self) -> NetworkOptions:
        """The width of the network, and the strength of the augmentation."""
        return self.options.points
