"""`ApplyContext`: what the parts of one apply share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.runtime.phases import Progress
from diptych.swap.backfill.live_points import LivePoints
from diptych.swap.gate.gate import Judged
from diptych.swap.lease import Lease
from diptych.swap.reports import ApplyOptions


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """One apply: collection, config, options, progress.

    Args:
        handle, config, options, progress: as given to `apply`.
        lease: held while the apply runs.
        stopped: ends the work at the next chunk.
        warnings: sentences for the report.

    `points` reads and counts the collection's points. `judged` holds the judgements to compare by, if there are any.
    """

    handle: CollectionHandle
    config: Config
    options: ApplyOptions
    lease: Lease
    progress: Progress
    stopped: threading.Event
    warnings: list[str] = field(default_factory=list)
    points: LivePoints = field(init=False)
    judged: Judged | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", LivePoints.of(self.handle, self.stopped))
        object.__setattr__(self, "judged", self.options.judged or Judged.of(self.config.evaluate))
