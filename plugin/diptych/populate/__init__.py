"""Populate: takes documents and fills a collection with their vectors.

Begin with `run`, which draws the pipeline; then `validate` (checked documents), `index` (what is new or changed),
`encode` (by which slots) and `engine` (threads), `points` (their form, and uploads) and `store` (calls with retries).
`sources` reads files and `read_ahead` reads them ahead or twice; `seen_ids` finds repeated ids, `statistics` measures
the corpus, `locks` and `disk_room` precede writes. `rejects` collects documents that cannot be indexed, `sync` deletes
what the source no longer has. `ray_engine` and `ray_worker` encode on a cluster of Ray.

Sizes: a *chunk* (`populate.chunk`) is what may be in progress at once, and so what a crash can cost. A *piece*, half of
it, is encoded and uploaded together. A *batch* is what the store is asked about at once, to find changes. A *page* is
what a back-fill of `diptych.swap` reads, encodes and checks together: a quarter of a chunk, on a server half of one; it
is written in *parts*, as the pace allows.
"""

from __future__ import annotations

from diptych.populate.engine import Engine
from diptych.populate.rejects import Rejected
from diptych.populate.run import populate
from diptych.populate.sources.open_source import Source, open_source
from diptych.runtime.phases import Progress

__all__ = ["Engine", "Progress", "Rejected", "Source", "open_source", "populate"]
