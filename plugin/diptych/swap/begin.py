"""Begins a swap: creates the new vectors, then announces them, so that populates write them from then on.

`edited_search` says where a config was edited since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.config.models import Config, SearchConfig
from diptych.errors import SwapError
from diptych.handle.create import timestamp, who
from diptych.handle.open_handle import describes, reading_of, storage_of
from diptych.metadata.models import CollectionMetadata, Generation, Prefix, QueryEncoder, State, Swap, vector_name
from diptych.metadata.payloads import has_media
from diptych.populate.read_ahead import summed
from diptych.protocols import Calibrated, Statistics
from diptych.slots.slot import Slot
from diptych.stores.retired_vectors import drop_orphans, orphans
from diptych.stores.versions import ADDS_VECTORS, require_version
from diptych.swap.apply_types import ApplyContext
from diptych.swap.changes import ENCODES, Change
from diptych.swap.documents import document_of
from diptych.swap.transitions import changed, write
from diptych.swap.vectors import create, taken

PAGE = 256  # documents read at once to measure the corpus


@dataclass(frozen=True, slots=True)
class SwapStart:
    """What a swap starts from: the changes, the live state, and the new config."""

    context: ApplyContext
    changes: Sequence[Change]

    def announce(self, metadata: CollectionMetadata) -> CollectionMetadata:
        """Create the vectors, then record in the metadata that a swap is under way.

        A kill in between leaves vectors that no state knows. Their names are recorded first, so that the next apply
        drops these and no others.
        """
        self._require_possible()
        handle, config = self.context.handle, self.context.config
        drop_orphans(handle.client, handle.name, metadata)
        orphaned = orphans(handle.client, handle.name, metadata)  # vectors that are still to be dropped
        target = {c.name: self._target(c, self._number(c, metadata)) for c in self.changes if c.slot is not None}
        building = {c.name: target[c.name] for c in self.changes if c.action in ENCODES}
        students = dict[str, QueryEncoder]()
        for c in self.changes:
            if c.student is not None:  # it makes the queries of the generation
                own = target[c.name]
                described = c.student.describe(
                    number=own.number, vector=own.vector, reading=own.reading, statistics=None
                )
                students[c.name] = QueryEncoder(generation=described, student=True, why="named by the config")
        for change in self.changes:
            if change.slot is not None:
                change.slot.generation = target[change.name]
                handle.share_encoder(change.slot)
        # Note the names, create the vectors, announce the swap: after a kill between any two of these steps the next
        # apply knows which vectors are leftovers, and no populate writes a vector that does not exist.
        new_vectors = {vector: generation.kind for generation in building.values() for vector in generation.vectors}
        # Noted by name: a vector that merely looks like a generation may be a user's own, and must never be dropped.
        before, metadata = metadata, metadata.model_copy(update={"leftover": {**orphaned, **new_vectors}})
        write(handle.client, handle.name, before, metadata)
        retrieved = config.search.retrieved(config.slots)
        for change in self.changes:
            if change.slot is not None and change.action in ENCODES:
                create(handle.client, handle.name, change.slot, handle.registry, retrieved)
        swap = Swap(
            building=building,
            target=State(slots=target, asking=students),
            search=config.search.model_dump(mode="json"),
            config=config.digest(),
            began=timestamp(),
            by=who(),
            why=self.context.options.why,
        )
        numbers = {name: max(metadata.numbers.get(name, 0), generation.number) for name, generation in target.items()}
        announced = changed(
            metadata,
            "began",
            swap.target,
            why=swap.why,
            config=swap.config,
            swap=swap,
            numbers={**metadata.numbers, **numbers},
        )
        write(handle.client, handle.name, metadata, announced)
        return announced

    def _require_possible(self) -> None:
        """Refuse new vectors on a server too old for them, and a media slot if no document, given or not, has media."""
        handle, given = self.context.handle, self.context.options.documents
        if any(c.slot is not None and c.action in ENCODES and c.slot.kind != "text_index" for c in self.changes):
            do = "update the server; or copy the collection to one that is newer: diptych copy, then apply there"
            lacks, where = "cannot add a vector to a collection", f"collection {handle.name!r}"
            require_version(handle.client, ADDS_VECTORS, lacks, where=where, do=do)
        for change in self.changes:
            modality = change.slot.reading.modality if change.slot and change.action in ENCODES else "text"
            if modality == "text" or given is not None or not handle.client.count(handle.name, exact=True).count:
                continue
            if not handle.client.count(handle.name, count_filter=has_media(modality), exact=True).count:
                raise SwapError(
                    f"no document of the collection has media of kind {modality}",
                    where=f"collection {handle.name!r}, slot {change.name!r}",
                    do="populate the documents with their media first, or name the file that has them: --source FILE",
                )

    def settings(self, live: State) -> State:
        """The live state with the config's options and storage, for changes that make no vectors."""
        slots = {c.name: self._as_configured(c.slot, c.live) for c in self.changes if c.slot and c.live}
        for change in self.changes:
            if change.slot is not None and change.live is not None:
                change.slot.generation = slots[change.name]
                self.context.handle.share_encoder(change.slot)  # so that the handle does not load the encoder again
        return State(slots=slots, asking=live.asking)

    def _number(self, change: Change, metadata: CollectionMetadata) -> int:
        """The slot's next generation number; for a new vector the next one whose name is free."""
        # A number is never given twice: a late or replayed write that names `dense.2` must not meet another encoder's.
        number, slot, handle = metadata.numbers.get(change.name, 0) + 1, change.slot, self.context.handle
        while slot is not None and change.action in ENCODES:
            name = vector_name(slot.name, slot.kind, number)
            first = Prefix.of(name, storage_of(slot.config))
            names = [name, first.vector] if first else [name]
            if not any(taken(handle.client, handle.name, vector, slot.kind) for vector in names):
                break
            number += 1
        return number

    def _target(self, change: Change, number: int) -> Generation:
        """The generation that the slot will have after the cut-over."""
        slot, live = change.slot, change.live
        assert slot is not None, "a slot that is dropped has no target"
        reading = reading_of(self.context.config.populate, slot.config)
        if change.action in ENCODES:
            vector, statistics = vector_name(change.name, slot.kind, number), self._measured(slot)
            return slot.describe(number=number, vector=vector, reading=reading, statistics=statistics)
        if change.kept is not None:
            return self._as_configured(slot, change.kept)
        assert live is not None, "what is not added was live before"
        if change.action == "re-prompt":
            return slot.describe(number=number, vector=live.vector, reading=reading, statistics=live.statistics)
        return self._as_configured(slot, live)

    def _as_configured(self, slot: Slot, generation: Generation) -> Generation:
        """The same vectors with the config's options, so that the config matches again."""
        return generation.model_copy(
            update={
                "adapter": slot.config.adapter,
                "options": slot.config.options,
                "storage": storage_of(slot.config),
                "numerics": slot.fingerprint.numerics,
            }
        )

    def _measured(self, slot: Slot) -> Statistics | None:
        """The statistics of the whole corpus, for an encoder that needs them."""
        if not isinstance(slot.encoder, Calibrated):
            return None
        reading, sums = reading_of(self.context.config.populate), dict[str, float]()
        layout, given = self.context.handle.view.layout, self.context.options.documents
        for records, _ in self.context.points.pages(PAGE, payload=self.context.points.texts):
            documents = (document_of(record, layout, given) for record in records)
            sums = summed(sums, slot, [text for d in documents if d and (text := reading.of(d.title, d.text))])
        if not sums.get("documents"):
            raise SwapError(
                f"the encoder of {slot.where} is calibrated on the collection's documents, and there are none with a "
                "text",
                where=f"collection {self.context.handle.name!r}",
                do="populate documents first, or name the file that the points were made from: --source FILE",
            )
        return sums


def edited_search(config: Config, swap: Swap | None) -> list[str]:
    """A warning if the config's search settings are not those that the swap under way was announced with."""
    if swap is None or not describes(config, swap.target):
        return []
    if SearchConfig.model_validate(swap.search or {}) == config.search:
        return []
    return [
        "search: the swap under way keeps the settings that it began with. The edited ones go live by another `diptych "
        "apply` after the cut-over; for the gate to compare them, abandon the swap first: diptych rollback"
    ]
