"""Reduction: fewer vectors for each document of a multi-vector slot.

`options` holds the config's values, and `ward` clusters the vectors of a document. `encoder` wraps an adapter, so that
the rest of diptych sees an ordinary multi-vector encoder.
"""

from __future__ import annotations

from diptych.reduction.encoder import ReducedEncoder
from diptych.reduction.options import REDUCE, ReduceOptions
from diptych.reduction.ward import reduced

__all__ = ["REDUCE", "ReduceOptions", "ReducedEncoder", "reduced"]
