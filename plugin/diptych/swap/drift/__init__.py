"""Drift maps: new queries on old vectors while a back-fill is under way and the old encoder is gone.

`fit` and `best_map` make a `Map` from documents that both encoders encoded, with its measured `Quality`; `offer` says
whether that is good enough to be offered, and why. `load` reads a map back from a collection's metadata. Numpy only.
"""

from __future__ import annotations

from diptych.slots.drift_maps import Map, MapKind, load
from diptych.swap.drift.fit import KINDS, Fitted, best_map, fit
from diptych.swap.drift.offer import Offer, offer
from diptych.swap.drift.quality import Quality

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
