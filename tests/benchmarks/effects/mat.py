"""H-mat: score matrices of a known rank, in place of a teacher that scores every pair.

true = planted(0)                    # float64 [200, 2000] of rank 20, with noise if asked
teacher = concentrated(true)         # the same order, most scores near 0 or 1
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def planted(
    seed: int, *, rows: int = 200, columns: int = 2000, rank: int = 20, noise: float = 0.0
) -> NDArray[np.float64]:
    """`A B^T / sqrt(rank) + noise E`, all of normal numbers, `[rows, columns]`; without noise of exactly this rank."""
    random = np.random.default_rng((seed, 13))
    left, right = random.normal(size=(rows, rank)), random.normal(size=(columns, rank))
    return np.asarray(left @ right.T / np.sqrt(rank) + noise * random.normal(size=(rows, columns)))


def concentrated(scores: NDArray[np.float64], *, slope: float = 20.0) -> NDArray[np.float64]:
    """`sigmoid(slope (s - 1/2))` of scores that are brought to 0..1: what a sure cross-encoder makes of them."""
    return np.asarray(1 / (1 + np.exp(-logits(scores, slope=slope))))


def logits(scores: NDArray[np.float64], *, slope: float = 20.0) -> NDArray[np.float64]:
    """What the sigmoid of `concentrated` is taken of."""
    low, high = scores.min(), scores.max()
    return np.asarray(slope * ((scores - low) / (high - low) - 0.5))
