"""How like the vectors in a collection are to those that an encoder makes of the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.slots.encode import Vector
from diptych.slots.guard import MINIMUM_LIKENESS
from diptych.types import Floats, SparseVector

MOST = 0.95  # of the sampled points must have the encoder's vectors; a few may have been written by something else


@dataclass(frozen=True, slots=True)
class Likeness:
    """The cosine of stored and new vectors, one a point, float32 `[n]`, in the order of the points."""

    values: Floats

    @property
    def median(self) -> float:
        """The median; 0 for no points."""
        return float(np.median(self.values)) if len(self.values) else 0.0

    @property
    def lowest(self) -> float:
        """The lowest; 0 for no points."""
        return float(self.values.min()) if len(self.values) else 0.0

    @property
    def alien(self) -> list[int]:
        """The places of points whose vectors the encoder did not make."""
        return np.flatnonzero(self.values < MINIMUM_LIKENESS).tolist()

    @property
    def fits(self) -> bool:
        """Whether the encoder made these vectors, but for a few."""
        return len(self.values) > 0 and len(self.alien) <= (1 - MOST) * len(self.values)

    def __str__(self) -> str:
        return f"cosine of {len(self.values)} sampled points: median {self.median:.4f}, lowest {self.lowest:.4f}"


def likeness_of(stored: Sequence[Vector], made: Sequence[Vector], *, by_length: bool) -> Likeness:
    """The likeness of two lists of vectors.

    Args:
        by_length: whether lengths count: they do not where Qdrant normalises what it is given.
    """
    pairs = zip(stored, made, strict=True)
    return Likeness(np.array([_cosine(then, now, by_length=by_length) for then, now in pairs], np.float32))


def _cosine(then: Vector, now: Vector, *, by_length: bool) -> float:
    a, b = _aligned(then, now)
    if a.shape != b.shape:
        return 0.0
    lengths = float(a @ a + b @ b) / 2 if by_length else float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths else float(not a.any() and not b.any())


def _aligned(then: Vector, now: Vector) -> tuple[Floats, Floats]:
    """Both as plain arrays: sparse ones over the terms of either, multi-vectors token after token."""
    if isinstance(then, SparseVector) and isinstance(now, SparseVector):
        terms = np.union1d(then.indices, now.indices)
        return _dense(then, terms), _dense(now, terms)
    if isinstance(then, SparseVector) or isinstance(now, SparseVector):
        return np.zeros(0, np.float32), np.zeros(1, np.float32)
    return then.ravel(), now.ravel()


def _dense(vector: SparseVector, terms: np.ndarray) -> Floats:
    row = np.zeros(len(terms), np.float32)
    row[np.searchsorted(terms, vector.indices)] = vector.values
    return row
