"""Mask policies: which parts of an item an encoder sees in pre-training, and which ones a decoder fills in."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Policy: TypeAlias = Literal["random", "disjoint", "dual"]
CELL = 4  # patches of VideoMAE V2's running cell, two by two; half of them are shown to the decoder


class Grid(NamedTuple):
    """How the patches of an item lie: those of a clip in time, rows and columns, those of a series in columns."""

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
    a random start. In a grid of one row the ring is four patches one after another.
    """
    rows, columns = hidden // grid.columns, hidden % grid.columns
    ring = columns % CELL if grid.rows == 1 else torch.where(rows % 2 == 0, columns % 2, 3 - columns % 2)
    start = torch.randint(CELL, (len(hidden), 1, 1))
    phase = (ring[:, None] + start + torch.arange(grid.time)[:, None]) % CELL
    rank = (phase >= CELL // 2) + torch.rand(phase.shape)  # shown ones before others, each in random order
    kept = max(1, round(share * hidden.shape[1]))
    chosen = rank.argsort(2)[:, :, :kept]
    return hidden[:, None].expand(-1, grid.time, -1).gather(2, chosen)
