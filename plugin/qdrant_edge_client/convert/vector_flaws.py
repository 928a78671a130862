"""Describes what is wrong with the numbers of a vector; "" when nothing is.

Edge takes any: an infinite dot product then ranks first for ever, and a sparse index that is there twice counts twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

FINITE = "finite numbers within the range of float32"
UNIQUE = "indices from 0 to 4294967295, each once"
_LARGEST = float(np.finfo(np.float32).max)


def flaw_of_dense(vector: Any) -> str:
    """What is wrong with a dense vector, or with the rows of a multi-vector; Edge refuses other values itself."""
    try:
        if isinstance(vector, list) and vector and isinstance(vector[0], list | np.ndarray):
            return next((flaw for row in vector if (flaw := flaw_of_dense(row))), "")
        return "" if _is_finite(vector) else _first_flaw(vector)
    except TypeError:
        return ""


def flaw_of_sparse(indices: Sequence[int], values: Any) -> str:
    """What is wrong with one sparse vector."""
    if len(indices) != len(values):
        return f"{len(indices)} indices, {len(values)} values"
    if len(set(indices)) != len(indices):
        return f"index {next(index for index, count in Counter(indices).items() if count > 1)} more than once"
    if len(indices) and not (min(indices) >= 0 and max(indices) < 2**32):
        return f"index {min(indices) if min(indices) < 0 else max(indices)}"
    return flaw_of_dense(values)


def _is_finite(vector: Any) -> bool:
    if not isinstance(vector, np.ndarray):
        return _length(vector) <= _LARGEST or all(abs(number) <= _LARGEST for number in vector)
    if vector.dtype.itemsize > np.float32().itemsize:  # what is too large for float32 becomes infinite in Edge
        return float(np.abs(vector).max(initial=0.0)) <= _LARGEST
    return bool(np.isfinite(vector).all())


def _length(numbers: Sequence[float]) -> float:
    """The Euclidean length: the fastest way to check that all numbers of a list are finite."""
    try:
        return math.hypot(*numbers)
    except OverflowError:  # an integer beyond all floats
        return math.inf


def _first_flaw(vector: Any) -> str:
    flat = vector.ravel().tolist() if isinstance(vector, np.ndarray) else vector
    position, number = next((i, number) for i, number in enumerate(flat) if not abs(number) <= _LARGEST)
    return f"{number} at position {position}"
