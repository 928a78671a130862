"""Populate: documents in, a filled collection out. See `populate` and `open_source`."""

from __future__ import annotations

from diptych.populate.engine import Engine
from diptych.populate.progress import Progress
from diptych.populate.run import populate
from diptych.populate.sources.open_source import Source, open_source
from diptych.populate.sources.rejected import Rejected

__all__ = ["Engine", "Progress", "Rejected", "Source", "open_source", "populate"]
