"""Encoders of pictures and clips whose patches can be left out: models of transformers, saved as such."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
import transformers
from torch import Tensor, nn

from diptych.media import Modality

Policy: TypeAlias = Literal["random", "disjoint", "dual"]
CELL = 4  # patches of VideoMAE V2's running cell, two by two; half of them are shown to the decoder


class Grid(NamedTuple):
    """How the patches of an item lie: those of a clip in time, rows and columns."""

    time: int
    rows: int
    columns: int

    @property
    def places(self) -> int:
        """Patches of one moment."""
        return self.rows * self.columns

    @property
    def patches(self) -> int:
        """Patches of an item."""
        return self.time * self.places


class Masks(NamedTuple):
    """What the views of a batch show and fill in; the views of one item are adjacent.

    Args:
        visible: numbers of the patches that the encoder sees, int64 `[items x views, visible]`.
        decoded: numbers of the hidden patches that the decoder fills in, int64 `[items x views, decoded]`.
    """

    visible: Tensor
    decoded: Tensor


def visible_places(grid: Grid, ratio: float) -> int:
    """How many places of a moment stay visible if about the share `ratio` of them is hidden."""
    return round((1 - ratio) * grid.places)


def drawn_masks(policy: Policy, items: int, grid: Grid, *, ratio: float, views: int, decoded: float) -> Masks:
    """Masks of a batch, drawn with PyTorch's generator. In clips, a place is hidden at all times or never.

    Args:
        policy: `random` draws each view by itself, as MAE does (He et al., CVPR 2022). `disjoint` lets no two views of
            an item see the same patch (DMJD, Ma et al., 2022). `dual` draws as random does, and the decoder fills in
            only some of the hidden patches (VideoMAE V2, Wang et al., CVPR 2023).
        items: in the batch.
        grid: of their patches.
        ratio: share of places that are hidden.
        views: of each item; `disjoint` needs `views * visible_places(grid, ratio) <= grid.places`.
        decoded: share of the hidden patches that the decoder fills in; only `dual` reads it.
    """
    shown, places = visible_places(grid, ratio), grid.places
    if policy == "disjoint":
        order = torch.rand(items, places).argsort(1)
        turns = torch.stack([order.roll(-view * shown, 1) for view in range(views)], 1).flatten(0, 1)
    else:
        turns = torch.rand(items * views, places).argsort(1)
    visible, hidden = turns[:, :shown], turns[:, shown:]
    at_times = torch.arange(grid.time)[:, None] * places
    filled = _in_running_cell(hidden, grid, decoded) if policy == "dual" else hidden[:, None].expand(-1, grid.time, -1)
    return Masks((visible[:, None] + at_times).flatten(1), (filled + at_times).flatten(1))


def _in_running_cell(hidden: Tensor, grid: Grid, share: float) -> Tensor:
    """A share of the hidden places at each time, int64 `[n, time, kept]`, those that the running cell shows first.

    Of each two by two patches, taken as a ring, the cell shows two neighbours; with time it moves on by one place, from
    a random start.
    """
    rows, columns = hidden // grid.columns, hidden % grid.columns
    ring = torch.where(rows % 2 == 0, columns % 2, 3 - columns % 2)
    start = torch.randint(CELL, (len(hidden), 1, 1))
    phase = (ring[:, None] + start + torch.arange(grid.time)[:, None]) % CELL
    rank = (phase >= CELL // 2) + torch.rand(phase.shape)  # shown ones before others, each in random order
    kept = max(1, round(share * hidden.shape[1]))
    chosen = rank.argsort(2)[:, :, :kept]
    return hidden[:, None].expand(-1, grid.time, -1).gather(2, chosen)


PERIOD = 10_000.0  # of the slowest wave of position vectors


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The shape of an encoder.

    Args:
        size: pixels a side of pictures and frames.
        patch: pixels a side of a patch.
        layers, width, heads: of the transformer.
        frames, tubelet: of clips, the frames it reads, and those of a patch.
    """

    size: int
    patch: int
    layers: int
    width: int
    heads: int
    frames: int
    tubelet: int

    def transformer(self) -> dict[str, Any]:
        """What the configs of ViT and VideoMAE share."""
        return {
            "image_size": self.size,
            "patch_size": self.patch,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width,
        }


class Body(nn.Module, ABC):
    """An encoder in its parts: patches become tokens, and any subset of these goes through the layers.

    Args:
        model: of transformers.
        grid: of its patches.
        values: numbers of a patch.
    """

    axes: ClassVar[tuple[int, ...]]  # of a batch of inputs, those of space and time
    processor: Any = None  # of transformers, which makes the inputs

    def __init__(self, model: Any, grid: Grid, values: int) -> None:
        super().__init__()
        self.model, self.grid, self.values = model, grid, values
        for part in model.modules():  # as MAE begins: patches weigh as much as their positions
            if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d):
                nn.init.xavier_uniform_(part.weight.data.flatten(1))

    @property
    def width(self) -> int:
        """Dimension of the encoder's tokens."""
        return int(self.model.config.hidden_size)

    @abstractmethod
    def embedded(self, inputs: Tensor) -> Tensor:
        """The patches of a batch of inputs as tokens with their positions, `[n, patches, width]`."""

    @abstractmethod
    def encoded(self, tokens: Tensor) -> Tensor:
        """Tokens `[n, m, width]` after all layers."""

    @abstractmethod
    def patches(self, inputs: Tensor) -> Tensor:
        """The numbers of each patch, `[n, patches, values]`."""

    @torch.no_grad()
    def centre(self, mean: Tensor) -> None:
        """Subtract this vector `[width]` from every token: vectors with a large common part differ little by cosine."""
        self.model.layernorm.bias.sub_(mean)

    def save(self, folder: Path) -> None:
        """Write the model as transformers does, with what makes its input."""
        self.model.save_pretrained(str(folder))
        if self.processor is not None:
            self.processor.save_pretrained(str(folder))


class PictureBody(Body):
    """A vision transformer (ViT). Inputs: float32 `[n, 3, size, size]` from -1 to 1."""

    axes = (2, 3)

    def __init__(self, shape: EncoderShape) -> None:
        side = shape.size // shape.patch
        config = transformers.ViTConfig(**shape.transformer())
        super().__init__(
            transformers.ViTModel(config, add_pooling_layer=False), Grid(1, side, side), 3 * shape.patch**2
        )
        self.processor = transformers.ViTImageProcessorPil(size={"height": shape.size, "width": shape.size})
        with torch.no_grad():
            self.model.embeddings.position_embeddings[:, 1:] = positions(self.grid, shape.width)

    def embedded(self, inputs: Tensor) -> Tensor:
        """As `Body`."""
        tokens: Tensor = self.model.embeddings(inputs)
        return tokens[:, 1:]

    def encoded(self, tokens: Tensor) -> Tensor:
        """As `Body`; the class token takes part, and is left out of the result."""
        embeddings = self.model.embeddings
        first = embeddings.cls_token + embeddings.position_embeddings[:, :1]
        states = torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)
        for layer in self.model.layers:
            states = layer(states)
        normed: Tensor = self.model.layernorm(states)
        return normed[:, 1:]

    def patches(self, inputs: Tensor) -> Tensor:
        """As `Body`."""
        patch = self.model.config.patch_size
        return nn.functional.unfold(inputs, patch, stride=patch).transpose(1, 2)


class ClipBody(Body):
    """VideoMAE's transformer. Inputs: float32 `[n, frames, 3, size, size]` from -1 to 1."""

    axes = (1, 3, 4)

    def __init__(self, shape: EncoderShape) -> None:
        side, half = shape.size // shape.patch, [0.5] * 3
        config = transformers.VideoMAEConfig(
            **shape.transformer(), num_frames=shape.frames, tubelet_size=shape.tubelet, use_mean_pooling=False
        )
        grid = Grid(shape.frames // shape.tubelet, side, side)
        super().__init__(transformers.VideoMAEModel(config), grid, 3 * shape.tubelet * shape.patch**2)
        self.processor = transformers.VideoMAEImageProcessorPil(
            size={"shortest_edge": shape.size},
            crop_size={"height": shape.size, "width": shape.size},
            image_mean=half,
            image_std=half,
        )

    def embedded(self, inputs: Tensor) -> Tensor:
        """As `Body`."""
        tokens: Tensor = self.model.embeddings(inputs, None)
        return tokens

    def encoded(self, tokens: Tensor) -> Tensor:
        """As `Body`."""
        states: Tensor = self.model.layernorm(self.model.encoder(tokens).last_hidden_state)
        return states

    def patches(self, inputs: Tensor) -> Tensor:
        """As `Body`."""
        config, grid = self.model.config, self.grid
        patch, times = config.patch_size, config.tubelet_size
        n = len(inputs)  # [n, time, frames of a patch, colours, rows, its rows, columns, its columns]
        parts = inputs.reshape(n, grid.time, times, 3, grid.rows, patch, grid.columns, patch)
        return parts.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(n, grid.patches, self.values)


BODIES: dict[Modality, type[PictureBody] | type[ClipBody]] = {"image": PictureBody, "video": ClipBody}


def positions(grid: Grid, width: int) -> Tensor:
    """Fixed vectors of the patches' places, `[patches, width]`: sines and cosines of time, row and column."""
    axes = [size for size in grid if size > 1] or [1]
    part = width // (2 * len(axes))
    speeds = PERIOD ** (-torch.arange(part) / part)
    steps = torch.cartesian_prod(*(torch.arange(size) for size in axes)).reshape(-1, len(axes))
    waves = (steps[:, :, None] * speeds).flatten(1)
    found = torch.cat([waves.sin(), waves.cos()], 1)
    return nn.functional.pad(found, (0, width - found.shape[1]))
