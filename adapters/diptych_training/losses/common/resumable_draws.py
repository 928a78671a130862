"""Random numbers for a loss, repeatable when a killed training continues."""

from __future__ import annotations

import torch
from torch import Tensor

SPREAD = 1_000_003  # from the seed of one draw to that of the next


class Draws(torch.nn.Module):
    """A generator for each draw, seeded by `seed` and `number`, a buffer, so that checkpoints store it."""

    number: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("number", torch.tensor(0))

    def forward(self) -> torch.Generator:
        """The next generator."""
        self.number += 1
        return torch.Generator().manual_seed(self.seed + SPREAD * int(self.number))
