"""Inputs of converted models: their names, and arrays by name."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("input_ids", "token_type_ids")
MASK = "attention_mask"


def input_names(*, typed: bool) -> tuple[str, ...]:
    """The inputs of a part, in the order of `SingleFeature.forward`; `typed` adds token types."""
    return (CHANNELS[0], MASK, *CHANNELS[1:]) if typed else (CHANNELS[0], MASK)


def feeds(names: Iterable[str], inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The arrays for these inputs; missing token types are 0."""
    arrays = {MASK: mask, **dict(zip(CHANNELS, inputs, strict=False))}
    arrays.setdefault(CHANNELS[1], np.zeros_like(mask))
    return {name: arrays[name] for name in names}
