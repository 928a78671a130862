"""A slow copy of a model, and a queue of the vectors that it made."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych_training.losses.base import Features


class MomentumEncoder:
    """Follows a model: `twin = m twin + (1 - m) model` before each batch of a training.

    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020.

    It is no module, so that a loss neither trains it nor keeps it among its weights, and dropout stays off.

    Args:
        model: that is trained; the twin is a copy of it as it is when it is first needed, low-rank adapters included.
        momentum: m.
    """

    def __init__(self, model: Any, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self._network: Any = None
        self._pending: dict[str, Tensor] = {}

    @property
    def network(self) -> Any:
        """The slow copy."""
        if self._network is None:
            self._network = copy.deepcopy(self.model).requires_grad_(False).eval()
            self._restore()
        return self._network

    def encoded(self, features: Sequence[Features], *, follow: bool) -> list[Tensor]:
        """The twin's embeddings of columns, each `[B, D]`; `follow` lets it take a step after the model first."""
        return [
            self.outputs(column, follow=follow and place == 0)["sentence_embedding"]
            for place, column in enumerate(features)
        ]

    @torch.no_grad()
    def outputs(self, features: Features, *, follow: bool) -> Features:
        """All that the twin makes of a column; `follow` lets it take a step after the model first."""
        self.network.to(next(self.model.parameters()).device)
        if follow:
            for slow, fast in zip(self.network.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast.detach().to(slow), 1 - self.momentum)
        outputs: Features = self.network(dict(features))
        return outputs

    def state(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return tensors_of(self.network)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the weights of `state`; with none the twin starts anew, as a copy of the model."""
        self._pending = dict(state)
        if self._network is not None:
            self._restore()

    @torch.no_grad()
    def _restore(self) -> None:
        state, self._pending = self._pending, {}
        for name, value in tensors_of(self._network).items() if state else ():
            value.copy_(state[name])


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


def tensors_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
