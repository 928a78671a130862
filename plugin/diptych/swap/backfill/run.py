"""`BackfillRun`: fills the vectors of a swap, one slot after another or side by side, and counts what was done."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from itertools import islice

from diptych.metadata.models import CollectionMetadata, State
from diptych.populate.disk_room import require_room_to_fill
from diptych.populate.media_references import store_references
from diptych.slots.slot import Slot
from diptych.swap.apply_types import POINTS_SHOWN, ApplyContext
from diptych.swap.backfill.backfill import Backfill, Filled
from diptych.swap.gate.gate import coverage
from diptych.swap.query_override import query_encoders


class BackfillRun:
    """Runs the back-fills and repairs of an apply, and counts: `encoded` by vector, `filled` over all of them.

    `asking` names by slot the encoder of queries meanwhile, if it is not the live one.

    Args:
        context: the apply's context.
    """

    def __init__(self, context: ApplyContext) -> None:
        self._context, self._handle = context, context.handle
        self.encoded: dict[str, int] = {}
        self.cache_hits: dict[str, int] = {}
        self.filled = Filled()
        self._referenced = False
        self.asking: dict[str, str] = {}

    @property
    def left_shown(self) -> dict[int | str, str]:
        """The first points that were left without a vector, with the reasons."""
        return dict(islice(self.filled.left.items(), POINTS_SHOWN))

    def groups(self, slots: Mapping[str, Slot]) -> list[dict[str, Slot]]:
        """The slots that are filled side by side: all with `parallel`, else one at a time."""
        parallel = self._context.options.parallel
        together = self._context.config.swap.parallel if parallel is None else parallel
        return ([dict(slots)] if slots else []) if together else [{vector: slot} for vector, slot in slots.items()]

    def fill(self, slots: Mapping[str, Slot]) -> None:
        """Fill these vectors in one pass.

        Raises:
            StoreFull: the disk has too little space for all of them; nothing was written.
        """
        self._store_references()
        client, name = self._handle.client, self._handle.name
        generations = [slot.generation for slot in slots.values() if slot.generation]
        lacking = [coverage(client, name, generation).missing for generation in generations]
        # The vectors of all slots are added up there, for as many points as the emptiest of them lacks.
        require_room_to_fill(self._handle, slots, max(lacking, default=0))
        self._count(slots, Backfill.run)

    def repair(self, metadata: CollectionMetadata, state: State, leave: Container[str] = ()) -> None:
        """Fill points that lack a vector of this state, except those in `leave`.

        Needed after a populate was killed during a cut-over, or when other programs write points.
        """
        self._store_references()
        view = self._handle.at(state, metadata)
        for name, generation in state.slots.items():
            vector = generation.vector
            if vector in leave:
                continue
            # After a killed repair no vector may be missing, yet some may be of texts that have changed since.
            interrupted = self._context.lease.interrupted_repairs([vector])
            if interrupted or coverage(self._handle.client, self._handle.name, generation).missing:
                self._count({vector: view.slots[name]}, Backfill.repair)

    def _store_references(self) -> None:
        """Store, once, references to media of points that another program has since added to an adopted collection."""
        layout = self._handle.view.layout
        if not self._referenced and layout.media:
            references = store_references(self._handle.client, self._handle.name, layout, self._handle.media)
            self._context.warnings.extend(references.warnings())
        self._referenced = True

    def _count(self, slots: Mapping[str, Slot], work: Callable[[Backfill], Filled]) -> None:
        """Do the work of a back-fill of these slots, and add up what it did."""
        before = {vector: _hits(slot) for vector, slot in slots.items()}
        filled = work(Backfill(self._context, slots))
        for vector, slot in slots.items():
            self.encoded[vector] = self.encoded.get(vector, 0) + filled.encoded
            self.cache_hits[vector] = self.cache_hits.get(vector, 0) + _hits(slot) - before[vector]
        self.filled.changed += filled.changed
        self.filled.left.update(filled.left)
        self.asking = query_encoders(self._handle.read().live)


def _hits(slot: Slot) -> int:
    """Vectors of documents that the slot has had from the embedding cache so far."""
    return slot.namespace.hits if slot.namespace else 0
