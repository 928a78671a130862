"""Two spaces of the same documents: clustered vectors, turned, shifted and disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest

from diptych.types import Floats

Spaces: TypeAlias = Callable[..., tuple[Floats, Floats]]


def turned(size: int, new: int, old: int, *, noise: float, seed: int, shift: float = 0.3) -> tuple[Floats, Floats]:
    """New and old vectors of `size` documents around 30 topics; without noise a rotation and a shift tell all."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(30, min(new, old)))[rng.integers(0, 30, size)]
    latent = latent + 0.5 * rng.normal(size=latent.shape)
    sides = []
    for dimension in (new, old):
        turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        rows = latent @ turn[: latent.shape[1]] + shift * rng.normal(size=dimension)
        sides.append(np.asarray(rows + noise * rng.normal(size=rows.shape), np.float32))
    return sides[0], sides[1]


@pytest.fixture
def spaces() -> Spaces:
    return turned
