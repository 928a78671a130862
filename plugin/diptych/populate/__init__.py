"""Populate: takes documents and fills a collection with their vectors.

Begin with `run`, which draws the pipeline. Its stages, in order: `validate` checks documents, `index` finds what is new
or changed, `encode` has each slot encode in a thread, `points` builds points, and `index` uploads them through `store`,
which retries calls. `sources` reads files, `read_ahead` reads a source ahead of its use or twice, and measures the
corpus. Before the first write, `disk_room` checks the disk. `rejects` collects documents that cannot be indexed, `sync`
deletes documents that the source no longer has. `ray_engine` encodes on a cluster of Ray.

Sizes: a *chunk* (`populate.chunk`) is what may be in progress at once, and so what a crash can cost. A *piece*, half of
it, is encoded and uploaded together. A *batch* is what the store is asked about at once, to find changes. A *page* is
what a back-fill of `diptych.swap` reads, encodes and checks together: a quarter of a chunk, on a server half of one; it
is written in *parts*, as the pace allows.
"""

from __future__ import annotations

from diptych.populate.encode import Engine
from diptych.populate.rejects import Rejected
from diptych.populate.run import populate
from diptych.populate.sources.open_source import Source, open_source
from diptych.runtime.phases import Progress

__all__ = ["Engine", "Progress", "Rejected", "Source", "open_source", "populate"]
