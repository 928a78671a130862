"""`Bridge`: a drift map for a slot whose old encoder is gone, fitted on the documents encoded so far.

Until the cut-over, queries and new documents go through the new encoder and the map to the old vectors. The map
is measured on pairs held out of the fit, and by judgements if there are some; it serves only if the rule allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from diptych.config.models import SearchConfig
from diptych.evaluate.ask import BATCH
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.metadata.models import CollectionMetadata, Generation, QueryEncoder, State
from diptych.metadata.store import DRIFT, raw_metadata
from diptych.plugins.anchor_scores import has_anchors
from diptych.populate.store import Store
from diptych.slots.drift_maps import Map, load
from diptych.slots.slot import Slot, slot_config
from diptych.swap.drift import Fitted, best_map, offer
from diptych.swap.drift.pairs import MINIMUM
from diptych.swap.drift.quality import MOST_ASKED, PAIRS, likenesses
from diptych.swap.gate.answers import query_obstacle_of
from diptych.swap.gate.judged import Judged, mean_of
from diptych.swap.query_override import CANDIDATES, withdraw
from diptych.swap.sample import FETCH, sample_points
from diptych.swap.transitions import switched_queries, write
from diptych.types import Floats

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

SHARES = (0.05, 0.2, 0.5)  # a map is fitted when these shares of the points are filled; more pairs give a better map
MOST_PAIRS = 5000  # pairs that a map is fitted on
MOST_IDS_READ = 1_000_000  # up to here all ids are read, 2,000 in a request, which costs less than 5,000 probes
MAPPED_LIKENESS = 0.9999  # an old vector this like the mapped one is taken to have been written through the map


@dataclass(slots=True)
class Bridge:
    """Fits and offers maps as a back-fill goes on.

    Args:
        handle: the collection.
        store: reads from it, with retries.
        slot: the slot whose old encoder is gone.
        old, new: its generations.
        points: number of points to fill.
        judged: queries that choose the map and measure it; None uses documents for both.
        warn: called with the reason if a map is not offered.
        served: the maps through which documents may have been written.
    """

    handle: CollectionHandle
    store: Store
    slot: str
    old: Generation
    new: Generation
    points: int
    judged: Judged | None
    warn: Callable[[str], None]
    served: list[Map] = field(default_factory=list)
    _next: int = field(default=0, init=False)
    _query_vectors: Floats | None = field(default=None, init=False)

    def reached(self, done: int) -> None:
        """`done` points are filled; fits a map when a share is reached, of no fewer points than the rule asks for."""
        if self._next >= len(SHARES) or done < max(PAIRS, SHARES[self._next] * self.points):
            return
        while self._next < len(SHARES) and done >= SHARES[self._next] * self.points:
            self._next += 1
        self._fit(f"{done:,} of {self.points:,} documents encoded: ")

    def _fit(self, share: str) -> None:
        find = partial(live_pairs, self.handle.client, self.handle.name, self.new, self.old, self.served)
        new, old = self.store.request(find)
        if self.served and len(new) < PAIRS:
            return  # the map that serves reproduces nearly all old vectors exactly, so there is no better one
        if len(new) < MINIMUM:
            pairs = f"{len(new)} documents have a vector of both encoders that is not zero"
            self.warn(f"slot {self.slot!r}, {share}no drift map is fitted: {pairs}, {MINIMUM} are needed")
            return
        fitted = best_map(
            new,
            old,
            new_similarity=self.new.similarity or "cosine",
            old_similarity=self.old.similarity or "cosine",
            queries=self._queries(),
        )
        self._decide(fitted, share)

    def _queries(self) -> Floats | None:
        """The new encoder's vectors of judged queries, `[n, d]`; None without judgements."""
        if self.judged is None:
            return None
        if self._query_vectors is None:
            slot = self.handle.building(self.slot, self.new)
            texts = [query.text for query in self.judged.asked[:MOST_ASKED]]
            batches = (slot.encode("query", texts[at : at + BATCH]) for at in range(0, len(texts), BATCH))
            self._query_vectors = np.asarray([vector for batch in batches for vector in batch], np.float32)
        return self._query_vectors

    def _decide(self, fitted: Fitted, share: str) -> None:
        """Serve the map; if it is not good, withdraw any earlier map too, which was measured on fewer pairs."""
        offered = offer(fitted.quality)
        if offered.good:
            return self._serve(fitted, f"{share}{offered.why}")
        if withdraw(self.handle, self.slot, f"{share}{offered.why}"):
            done = "the drift map that served is withdrawn, and the slot answers nothing until the cut-over"
        else:
            done = "no drift map is offered"
        return self.warn(f"slot {self.slot!r}, {share}{done}: {offered.why}")

    def _serve(self, fitted: Fitted, why: str) -> None:
        key = f"{DRIFT}{self.slot}"
        asking = QueryEncoder(generation=self.new, drift=key, why=why)
        if self.judged is not None and self.judged.asked:
            asking = asking.model_copy(update={"why": f"{why}; {mean_of(self._mapped(fitted.map), self.judged)}"})
        before = self.handle.read()
        after = switched_queries(before, self.slot, asking)
        write(self.handle.client, self.handle.name, before, after, {key: fitted.to_json()})
        self.served.append(fitted.map)
        self.handle.install(after, load=False)  # what the map needs is loaded; of other slots it may be gone

    def _mapped(self, drift: Map) -> View:
        """A view of the slot alone, searched through the map, which is not served yet."""
        alone = SearchConfig(retrieve={self.slot: CANDIDATES})
        view = self.handle.at(State(slots={self.slot: self.old}), search=alone)
        slot = Slot(
            self.slot,
            slot_config(self.old),
            self.old,
            self.handle.registry,
            asking=QueryEncoder(generation=self.new),
            asker=self.handle.building(self.slot, self.new),
            drift=drift,
        )
        return replace(view, slots={self.slot: slot})


def bridges(
    handle: CollectionHandle,
    store: Store,
    building: Mapping[str, Generation],
    *,
    judged: Judged | None,
    warn: Callable[[str], None],
) -> list[Bridge]:
    """A bridge for each dense slot that is being filled and whose old encoder is gone; the others go on answering.

    So does a slot whose queries a student makes.
    """
    metadata = handle.read()
    old = {name: metadata.live.slots[name] for name in building if name in metadata.live.slots}
    dense = [
        name
        for name, generation in old.items()
        if generation.kind == building[name].kind == "dense" and not has_anchors(generation.options)
    ]
    students = metadata.live.without_temporary_queries().asking
    gone = [name for name in dense if name not in students and _is_gone(handle, metadata, name, warn)]
    points = store.count()
    if gone and points < PAIRS:
        warn(f"no drift map is fitted: the collection has {points} documents, {PAIRS} are needed to judge one")
        return []
    return [
        Bridge(handle, store, name, old[name], building[name], points, judged, warn, _served(handle, metadata, name))
        for name in gone
    ]


def _served(handle: CollectionHandle, metadata: CollectionMetadata, name: str) -> list[Map]:
    """The map that an earlier apply left in use."""
    asking = metadata.live.asking.get(name)
    kept = raw_metadata(handle.client, handle.name)
    return [load(kept[asking.drift])] if asking and asking.drift and asking.drift in kept else []


def _is_gone(handle: CollectionHandle, metadata: CollectionMetadata, name: str, warn: Callable[[str], None]) -> bool:
    """Whether the slot's own encoder cannot be loaded, is not the one that made its vectors, or does not answer."""
    itself = handle.at(State(slots={name: metadata.live.slots[name]}), metadata).slots[name]
    if query_obstacle_of({itself.name: itself}, [itself.name]):
        return True
    if withdraw(handle, name, "the slot's own encoder works again"):
        warn(f"slot {name!r}: the old encoder works again and makes the queries; the drift map is withdrawn")
    else:
        warn(f"slot {name!r}: the old encoder works and goes on answering, so no drift map is fitted")
    return False


# Pairs for a drift map out of a live collection: documents that both encoders have encoded.


def live_pairs(
    client: QdrantBase, name: str, new: Generation, old: Generation, served: Iterable[Map] = ()
) -> tuple[Floats, Floats]:
    """New and old vectors of the same documents, float32 `[n, d_new]` and `[n, d_old]`, drawn evenly from all ids.

    Pairs of which one vector is zero or not finite are left out. So are those whose old vector came through a map of
    `served`: populate wrote it, and it shows the map, not the old encoder.
    """
    both = models.Filter(must=[models.HasVectorCondition(has_vector=generation.vector) for generation in (new, old)])
    points = sample_points(client, name, MOST_PAIRS, whole=MOST_IDS_READ, wanted=both)
    names = [new.vector, old.vector]
    pairs = []
    for start in range(0, len(points), FETCH):
        page = client.retrieve(name, points[start : start + FETCH], with_payload=False, with_vectors=names)
        pairs += [pair for record in page if (pair := _pair(record.vector, names))]
    new_vectors, old_vectors = (np.asarray([pair[side] for pair in pairs], np.float32) for side in (0, 1))
    return _without_mapped(new_vectors, old_vectors, served)


def _pair(vectors: Any, names: Sequence[str]) -> list[Floats]:
    """The vectors of these names; empty where one of them is gone by now, or has no direction."""
    arrays = [np.asarray((vectors or {}).get(name, ()), np.float32) for name in names]
    return arrays if all(vector.any() and np.isfinite(vector).all() for vector in arrays) else []


def _without_mapped(new: Floats, old: Floats, served: Iterable[Map]) -> tuple[Floats, Floats]:
    """The pairs whose old vector no map reproduces exactly.

    Payloads do not record how a vector was made, and those of adopted collections must not. If a map is exact for
    documents of the old encoder too, leaving these out costs nothing: the map cannot be improved, and stays.
    """
    for drift in served:
        if len(new):
            kept = likenesses(drift.apply(new), old, old.mean(axis=0)) < MAPPED_LIKENESS
            new, old = new[kept], old[kept]
    return new, old
