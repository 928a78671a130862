"""Adopts a collection that another framework or program filled, so that diptych can search and swap it.

Only the collection's metadata is written, and with `media` each point's references to its media. Texts and vectors stay
as they are, and the program that filled the collection can go on using it. Begin with `adopt`; `layouts` finds the
documents in the payloads and pairs vectors with slots, and `verify_encoders` checks that the config's encoders made the
vectors.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.adopt.adopt import AdoptedSlot, AdoptReport, adopt
from diptych.adopt.layouts import LAYOUTS, stated_layout

__all__ = ["LAYOUTS", "AdoptReport", "AdoptedSlot", "adopt", "stated_layout"]
