"""Pairs of vectors of documents that both encoders encoded: checked, and split for fitting and measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import SwapError
from diptych.protocols import Similarity
from diptych.slots.drift_maps import checked_rows, unit
from diptych.types import Floats

Rows: TypeAlias = NDArray[np.intp]

MINIMUM = 50  # below, a held-out tenth says nothing
MOST_PAIRS = 20_000  # what the paper fits on; more costs time and, measured, gains nothing


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Row i of `new` and of `old` is one document: float32 `[n, d_new]` and `[n, d_old]`, unit rows for cosine."""

    new: Floats
    old: Floats
    new_similarity: Similarity = "cosine"
    old_similarity: Similarity = "cosine"

    def __len__(self) -> int:
        return len(self.new)

    def of(self, rows: Rows) -> Pairs:
        """A subset of the pairs."""
        return Pairs(self.new[rows], self.old[rows], self.new_similarity, self.old_similarity)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Disjoint rows: `train` to fit, `tune` to choose strength or when to stop, `held_out` to measure."""

    train: Rows
    tune: Rows
    held_out: Rows


def checked_pairs(new: Any, old: Any, *, new_similarity: Similarity, old_similarity: Similarity) -> Pairs:
    """The pairs, checked and ready to fit.

    Raises:
        SwapError: fewer than 50, other lengths, or vectors that are zero or not finite.
    """
    new_rows, old_rows = checked_rows(new, "the new vectors"), checked_rows(old, "the old vectors")
    if len(new_rows) != len(old_rows):
        raise SwapError(
            "new and old vectors are not pairs",
            got=f"{len(new_rows)} new, {len(old_rows)} old",
            expected="one of each for every document, in the same order",
        )
    if len(new_rows) < MINIMUM:
        raise SwapError(
            "too few pairs for a drift map",
            got=len(new_rows),
            expected=f"at least {MINIMUM}",
            do="back-fill more documents first",
        )
    _refuse_zeros(new_rows, "new")
    _refuse_zeros(old_rows, "old")
    return Pairs(
        unit(new_rows) if new_similarity == "cosine" else new_rows,
        unit(old_rows) if old_similarity == "cosine" else old_rows,
        new_similarity,
        old_similarity,
    )


def split(size: int, *, seed: int) -> Split:
    """At most 20,000 random pairs: eight tenths, one tenth, one tenth."""
    order = np.random.default_rng(seed).permutation(size)[:MOST_PAIRS]
    tenth = max(10, len(order) // 10)
    return Split(order[2 * tenth :], order[tenth : 2 * tenth], order[:tenth])


def _refuse_zeros(rows: Floats, which: str) -> None:
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        raise SwapError(
            f"some {which} vectors are zero",
            got=f"{len(zero)} of {len(rows)}, first row {zero[0]}",
            expected="a direction for every document",
            do="leave these documents out of the pairs",
        )
