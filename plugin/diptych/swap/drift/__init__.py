"""Drift maps: search old vectors with a new encoder when the old encoder is gone and the back-fill is not finished.

`fit` and `best_map` fit a `Map` on documents that both encoders encoded and measure its `Quality`; `offer` decides
whether it is good enough to propose. `load` reads a map from a collection's metadata. Numpy only. Begin with `fit`.
"""

from __future__ import annotations

from diptych.slots.drift_maps import Map, MapKind, load
from diptych.swap.drift.fit import KINDS, Fitted, best_map, fit
from diptych.swap.drift.quality import Offer, Quality, offer

__all__ = [
    "KINDS",
    "Fitted",
    "Map",
    "MapKind",
    "Offer",
    "Quality",
    "best_map",
    "fit",
    "load",
    "offer",
]
