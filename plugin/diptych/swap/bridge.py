"""`Bridge`: a drift map for a slot whose old encoder is gone, fitted on the documents encoded so far.

Until the back-fill ends, queries and new documents go through the new encoder and the map to the old vectors. The map
is measured on pairs held out of the fit, and by judgements if there are some; it serves only if the rule allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import models

from diptych.config.models import SearchConfig
from diptych.errors import SwapError
from diptych.handle import CollectionHandle
from diptych.metadata import KEY, Asking, Generation, State
from diptych.swap.asking import CANDIDATES
from diptych.swap.drift import Fitted, best_map, offer
from diptych.swap.gate_judged import Judged, mean_of
from diptych.swap.states import switched_queries, write
from diptych.types import Floats

SHARES = (0.05, 0.2, 0.5)  # of the points, at which a map is fitted, each better than the one before
MOST = 5000  # pairs that a map is fitted on
LEAST = 50  # pairs below which none is fitted


def drift_key(slot: str) -> str:
    """The metadata key of a slot's drift map."""
    return f"{KEY}_drift_{slot}"


@dataclass(slots=True)
class Bridge:
    """Fits and offers maps as a back-fill goes on.

    Args:
        handle: the collection.
        slot: whose old encoder is gone.
        old, new: its generations.
        points: how many points are to be filled.
        judged: queries that show what the map is worth; None leaves that out.
        warn: is told why a map is not offered.
    """

    handle: CollectionHandle
    slot: str
    old: Generation
    new: Generation
    points: int
    judged: Judged | None
    warn: Callable[[str], None]
    _next: int = field(default=0, init=False)

    def reached(self, done: int) -> None:
        """`done` points are filled; fits a map when a share is reached."""
        if self._next >= len(SHARES) or done < max(LEAST, SHARES[self._next] * self.points):
            return
        while self._next < len(SHARES) and done >= SHARES[self._next] * self.points:
            self._next += 1
        self._serve(self.fitted(), done)

    def fitted(self) -> Fitted:
        """The best map on the pairs there are now.

        Raises:
            SwapError: too few pairs.
        """
        pairs = self._pairs()
        old, new = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
        return best_map(
            new,
            old,
            new_similarity=self.new.similarity or "cosine",
            old_similarity=self.old.similarity or "cosine",
        )

    def _pairs(self) -> list[tuple[Floats, Floats]]:
        both = models.Filter(
            must=[
                models.HasVectorCondition(has_vector=self.old.vector),
                models.HasVectorCondition(has_vector=self.new.vector),
            ]
        )
        client, names = self.handle.client, [self.old.vector, self.new.vector]
        records, _ = client.scroll(
            self.handle.name, scroll_filter=both, limit=MOST, with_payload=False, with_vectors=names
        )
        if len(records) < LEAST:
            raise SwapError("too few documents are encoded by both encoders", got=len(records), expected=LEAST)
        return [(_vector(record.vector, names[0]), _vector(record.vector, names[1])) for record in records]

    def _serve(self, fitted: Fitted, done: int) -> None:
        offered = offer(fitted.quality)
        share = f"{done:,} of {self.points:,} documents encoded: "
        # A good map that gains nothing over none serves too: documents written meanwhile need one to be found.
        if not (offered.yes or offered.unmapped):
            self.warn(f"slot {self.slot!r}, {share}no drift map is offered: {offered.why}")
            return
        key = drift_key(self.slot)
        asking = Asking(generation=self.new, drift=key, why=f"{share}{offered.why}")
        self.handle.client.update_collection(self.handle.name, metadata={key: fitted.to_json()})
        metadata = self.handle.read()
        if self.judged is not None:
            state = State(slots=metadata.live.slots, asking={self.slot: asking})
            view = self.handle.at(state, metadata, SearchConfig(retrieve={self.slot: CANDIDATES}))
            asking = asking.model_copy(update={"why": f"{asking.why}; {mean_of(view, self.judged)}"})
        after = switched_queries(metadata, self.slot, asking)
        write(self.handle.client, self.handle.name, after)
        self.handle.install(after)


def _vector(vectors: Any, name: str) -> Floats:
    found = vectors[name] if isinstance(vectors, Mapping) else vectors
    return np.asarray(found, np.float32)
