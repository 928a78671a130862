"""`Targets`: what a document must be encoded for, which changes when a swap begins or ends while populate runs."""

from __future__ import annotations

from collections.abc import Mapping

from diptych.cache import Namespace
from diptych.errors import DiptychError
from diptych.handle import CollectionHandle
from diptych.keeping import behind_payload
from diptych.populate.encode import SlotEncoder
from diptych.slots import Slot


class Targets:
    """The slots to write, by physical vector: the live ones, and those of a swap under way or not yet finished.

    An encoder of a live slot must work. One of a swap under way may be missing in this process: whoever applies the
    swap fills the gaps before the cut-over. One of an earlier generation may be gone for good: then its vectors are
    marked as behind, which takes away the way back, and the report says so.
    """

    def __init__(self, handle: CollectionHandle) -> None:
        self._handle = handle
        self.slots: Mapping[str, Slot] = handle.writers()
        self.encoders: Mapping[str, SlotEncoder] = {}
        self.warnings: list[str] = []
        self._given_up: set[str] = set()
        self._hits: dict[str, tuple[Namespace, int]] = {}  # by vector: whose hits, and how many before this run

    def load(self) -> None:
        """Make the encoders one after another: heavy packages do not like to be imported in several threads at once.

        Raises:
            DiptychError: one of a live slot cannot be made.
        """
        loaded = {vector: slot for vector, slot in self.slots.items() if self._works(vector, slot)}
        self.slots = loaded
        self.encoders = {
            vector: SlotEncoder(slot) for vector, slot in loaded.items() if slot.kind != "text_index"
        }  # replaced as a whole: another thread reads it
        for vector, slot in loaded.items():
            if (namespace := slot.namespace) is not None:
                self._hits.setdefault(vector, (namespace, namespace.hits))

    def refresh(self) -> bool:
        """Look again; whether other vectors are to be written now than before."""
        if not self._handle.exists:
            return False
        before = set(self.slots)
        wanted = {vector: slot for vector, slot in self._handle.writers().items() if vector not in self._given_up}
        if wanted.keys() != before:
            self.slots = wanted
            self.load()
        return self.slots.keys() != before

    def cache_hits(self) -> dict[str, int]:
        """How many vectors came from the cache in this run, by slot; slots whose vectors are not kept are left out."""
        hits: dict[str, int] = {}
        for vector, (namespace, before) in self._hits.items():
            name = self.name_of(vector)
            hits[name] = hits.get(name, 0) + namespace.hits - before
        return hits

    def name_of(self, vector: str) -> str:
        """What reports call it: the slot's name, or the vector's where it is not the live one."""
        return next((name for name, slot in self._handle.slots.items() if slot.vector == vector), vector)

    def is_live(self, vector: str) -> bool:
        """Whether queries are answered from it now."""
        return any(slot.vector == vector for slot in self._handle.slots.values())

    def _works(self, vector: str, slot: Slot) -> bool:
        try:
            slot.load_for_documents()
        except DiptychError as error:
            if self.is_live(vector):
                raise
            self._give_up(vector, error)
            return False
        return True

    def _give_up(self, vector: str, error: DiptychError) -> None:
        self._given_up.add(vector)
        metadata = self._handle.metadata
        building = metadata.swap.building.values() if metadata and metadata.swap else ()
        if metadata is None or any(generation.vector == vector for generation in building):
            self.warnings.append(f"vector {vector!r} is being built and was not written here: {error.what}")
            return
        client, name = self._handle.client, self._handle.name
        client.update_collection(name, metadata=behind_payload({*metadata.behind, vector}))
        self.warnings.append(
            f"vector {vector!r} of an earlier generation could not be written: {error.what}. "
            "It misses this run's documents, so there is no rollback to it; `diptych finish` drops it."
        )
