"""A model that hands on embeddings it is given, so that a loss module can be asked without one."""

from __future__ import annotations

import torch
from torch import Tensor


class Given(torch.nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["given"]}


def columns(*embeddings: Tensor) -> list[dict[str, Tensor]]:
    return [{"given": embedding} for embedding in embeddings]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Scaled(torch.nn.Module):
    """Hands on what it is given, times one parameter and made non-negative."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(6))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": (features["given"] * self.factor).relu()}
