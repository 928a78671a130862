"""Adoption: a collection that another framework filled, or a program of one's own, becomes one that diptych knows.

Nothing is written but the collection's metadata. Points, payloads and vectors stay as they are, and whoever filled the
collection can go on reading it and writing into it.
"""

from __future__ import annotations

from diptych.adopt.adopt import adopt
from diptych.adopt.layouts import LAYOUTS, stated_layout
from diptych.adopt.reports import AdoptedSlot, AdoptReport

__all__ = ["LAYOUTS", "AdoptReport", "AdoptedSlot", "adopt", "stated_layout"]
