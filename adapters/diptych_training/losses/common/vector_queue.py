"""Vectors of earlier batches, kept as negatives of later ones.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Queue(torch.nn.Module):
    """The last vectors that were put in, the newest first, without gradient; with the id of each, -1 where unknown.

    Both are buffers: a loss that holds a queue as its part has it in its checkpoints.

    Args:
        size: how many; each takes four bytes a dimension.
    """

    vectors: Tensor
    ids: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.empty(0, 0))
        self.register_buffer("ids", torch.empty(0, dtype=torch.int64))

    def put(self, vectors: Tensor, ids: Tensor) -> None:
        """Add `vectors [n, D]` with their `ids [n]`; the oldest are dropped."""
        self.vectors = torch.cat([vectors.detach(), self.like(vectors)])[: self.size]
        self.ids = torch.cat([ids, self.ids.to(ids.device)])[: self.size]

    def like(self, vectors: Tensor) -> Tensor:
        """The content, `[held, D]`, on the device of `vectors [n, D]` and with their width even when empty."""
        return self.vectors.to(vectors) if len(self.vectors) else vectors.new_empty(0, vectors.shape[1])
