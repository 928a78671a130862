"""The metadata updates of a swap, and `SwapStart`, which creates the new vectors and announces them.

Each update is one call, so that other processes see all of it or nothing.

An embedded store has it on the disk when the call returns: a power failure, like a kill, finds the old state or the new
one, never half of either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diptych.errors import SwapError
from diptych.handle.create import timestamp, who
from diptych.handle.open_handle import reading_of, storage_of
from diptych.metadata.models import (
    CollectionMetadata,
    Event,
    Generation,
    Prefix,
    QueryEncoder,
    State,
    Swap,
    What,
    vector_name,
)
from diptych.metadata.payloads import has_media
from diptych.metadata.store import (
    GATE,
    KEY,
    OBSOLETE,
    behind_key,
    metadata_of,
    metadata_payload,
    raw_metadata,
    same_values,
    update_metadata,
)
from diptych.populate.read_ahead import summed
from diptych.populate.store import Store
from diptych.protocols import Calibrated, Statistics
from diptych.slots.slot import Slot
from diptych.stores.retired_vectors import LEAST_INTERVAL, drop_orphans, orphans, retirement_dates
from diptych.stores.versions import ADDS_VECTORS, require_version
from diptych.swap.apply_types import ApplyContext
from diptych.swap.changes import ENCODES, Change
from diptych.swap.documents import document_of
from diptych.swap.vectors import create, taken

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

PAGE = 256  # documents read at once to measure the corpus


@dataclass(frozen=True, slots=True)
class SwapStart:
    """What a swap starts from: the changes and the new config."""

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
        announced = metadata_after(
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
        store = Store.of(self.context.handle, self.context.stopped)
        for records, _ in store.pages(PAGE, payload=store.texts):
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


def write(
    client: QdrantBase,
    name: str,
    before: CollectionMetadata,
    metadata: CollectionMetadata,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata, with `more` keys in the same call; keys that only earlier releases read are removed.

    The same call retires vectors that the metadata no longer needs, and forgets what the gate said of a swap that ends
    and which kept vectors missed documents.

    Args:
        before: the metadata that the change was made from.

    Raises:
        SwapError: another process has changed it since.
        StoreUnavailable: the nodes do not show the change in time.
    """
    stored = raw_metadata(client, name)  # an apply that was killed may have left some
    held = metadata_of(stored, name)
    # This stops a process whose lease has run out unnoticed. Qdrant cannot compare and write in one call, so a change
    # by another process between this read and the write is overwritten.
    if not same_values(metadata_payload(held)[KEY], metadata_payload(before)[KEY]):
        last = held.history[-1] if held.history else None
        raise SwapError(
            "the collection's state was changed by another process meanwhile",
            where=f"collection {name!r}",
            got=f"{last.what!r} by {last.by} at {last.when}" if last else "another state",
            expected="the state that this command began with",
            do="see diptych status, then run the command again",
        )
    void = dict.fromkeys(key for key in stored if key.startswith(OBSOLETE))
    void |= {GATE: None} if GATE in stored and metadata.swap is None else {}
    void |= {behind_key(vector): None for vector in before.behind if vector not in metadata.behind}
    dates = retirement_dates(client, name, metadata, stored)
    begin = time.monotonic()
    update_metadata(client, name, {**metadata_payload(metadata), **void, **dates, **(more or {})})
    if dates and time.monotonic() - begin > LEAST_INTERVAL:
        # Until the first update was written, others could write what it retires, so the wait begins again. A kill
        # before this second one leaves a date that is early by the first one's time.
        update_metadata(client, name, retirement_dates(client, name, metadata, stored))


def rolled_back(metadata: CollectionMetadata, name: str, why: str, *, anyway: bool = False) -> CollectionMetadata:
    """The metadata with `live` and `previous` exchanged.

    Raises:
        SwapError: there is no earlier state, or it misses documents and `anyway` is not set.
    """
    previous, where = metadata.previous, f"collection {name!r}"
    if previous is None:
        raise SwapError(
            "there is nothing to roll back to",
            where=where,
            got="no earlier generation is kept",
            do="edit the config and run diptych apply; the embedding cache may still hold the vectors",
        )
    # Only this refuses a rollback. Rollbacks are urgent, so other gaps are reported afterwards.
    behind = sorted(previous.vectors() & set(metadata.behind))
    if behind and not anyway:
        raise SwapError(
            "the earlier generation lacks documents that were written since",
            where=where,
            got=f"{', '.join(behind)} could not be written by a populate",
            do="edit the config back and run diptych plan and apply, which make them again; or roll back at once, "
            "without these documents: diptych rollback --anyway",
        )
    return metadata_after(
        metadata,
        "rolled back",
        previous,
        why=why,
        live=previous,
        previous=metadata.live.without_temporary_queries(),
        search=metadata.previous_search,
        previous_search=metadata.search,
        behind=tuple(vector for vector in metadata.behind if vector not in behind),
    )


def metadata_after(
    metadata: CollectionMetadata,
    what: What,
    state: State,
    *,
    why: str = "",
    config: str = "",
    gate: str = "",
    **changes: Any,
) -> CollectionMetadata:
    """The metadata with these changes of its fields, a line in the history, and what nothing needs any more.

    Args:
        what, state, why, config, gate: of the event.
        changes: new values by field.
    """
    event = Event(what=what, when=timestamp(), by=who(), why=why, config=config, slots=state.encoders(), gate=gate)
    after = metadata.model_copy(update={**changes, "history": (*metadata.history, event)})
    made, needed = dict(metadata.leftover), after.needed()
    for vector, (_, generation) in metadata.written().items():
        if vector not in after.written():
            made |= dict.fromkeys(generation.vectors, generation.kind)
    return after.model_copy(update={"leftover": {vector: made[vector] for vector in made if vector not in needed}})
