"""The metadata updates of a swap. Each is one call, so that other processes see all of it or nothing.

An embedded store has it on the disk when the call returns: a power failure, like a kill, finds the old state or the new
one, never half of either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import SwapError
from diptych.handle.create import timestamp, who
from diptych.metadata.models import CollectionMetadata, Event, Generation, QueryEncoder, State, Swap, What
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
from diptych.protocols import Kind
from diptych.stores.retired_vectors import LEAST_INTERVAL, retirement_dates

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def write(
    client: QdrantBase,
    name: str,
    before: CollectionMetadata,
    metadata: CollectionMetadata,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata, with `more` keys in the same call; keys that only earlier releases read are removed.

    The same call retires vectors that the metadata no longer needs, and forgets what the gate said of a swap that ends.

    Args:
        before: the metadata that the change was made from.

    Raises:
        SwapError: another process has changed it since.
        StoreUnavailable: the nodes do not show the change in time.
    """
    stored = raw_metadata(client, name)  # an apply that was killed may have left some
    _require_unchanged(stored, before, name)
    void = dict.fromkeys(key for key in stored if key.startswith(OBSOLETE))
    void |= {GATE: None} if GATE in stored and metadata.swap is None else {}
    dates = retirement_dates(client, name, metadata, stored)
    begin = time.monotonic()
    update_metadata(client, name, {**metadata_payload(metadata), **void, **dates, **(more or {})})
    if dates and time.monotonic() - begin > LEAST_INTERVAL:
        # Until the first update was written, others could write what it retires, so the wait begins again. A kill
        # before this second one leaves a date that is early by the first one's time.
        update_metadata(client, name, retirement_dates(client, name, metadata, stored))


def _require_unchanged(raw: Mapping[str, Any], before: CollectionMetadata, name: str) -> None:
    """Raise SwapError if the state is no longer the one that a change was made from.

    This stops a process whose lease has run out unnoticed. Qdrant cannot compare and write in one call, so a change by
    another process between this read and the write is overwritten.
    """
    stored = metadata_of(raw, name)
    if not same_values(metadata_payload(stored)[KEY], metadata_payload(before)[KEY]):
        last = stored.history[-1] if stored.history else None
        raise SwapError(
            "the collection's state was changed by another process meanwhile",
            where=f"collection {name!r}",
            got=f"{last.what!r} by {last.by} at {last.when}" if last else "another state",
            expected="the state that this command began with",
            do="see diptych status, then run the command again",
        )


def intended(metadata: CollectionMetadata, vectors: Mapping[str, Kind]) -> CollectionMetadata:
    """The metadata with vectors that are about to be created, so that after a kill their owner is known.

    They are among the `leftover` ones until the swap that needs them is announced.
    """
    # Noted by name: a vector that merely looks like a generation may be a user's own, and must never be dropped.
    return metadata.model_copy(update={"leftover": dict(vectors)})


def begun(metadata: CollectionMetadata, swap: Swap, numbers: Mapping[str, int]) -> CollectionMetadata:
    """The metadata with a swap under way."""
    event = _event("began", swap.target, swap.why, swap.config)
    return _with(metadata, event, swap=swap, numbers={**metadata.numbers, **numbers})


def switched_queries(metadata: CollectionMetadata, slot: str, asking: QueryEncoder) -> CollectionMetadata:
    """The metadata with another encoder for a slot's queries until the cut-over."""
    live = metadata.live.model_copy(update={"asking": {**metadata.live.asking, slot: asking}})
    event = _event("switched queries", live, asking.why)
    return _with(metadata, event, live=live)


def cut_over(metadata: CollectionMetadata, gate: str) -> CollectionMetadata:
    """The metadata with the swap's target live, and the live state as `previous`."""
    # After a rollback each slot's own encoder, or its student, makes its queries again.
    swap = _swap(metadata)
    event = _event("cut over", swap.target, swap.why, swap.config, gate)
    return _with(
        metadata,
        event,
        live=swap.target,
        previous=metadata.live.without_temporary_queries(),
        previous_search=metadata.search,
        search=swap.search,
        swap=None,
        behind=(),
    )


def changed_settings(
    metadata: CollectionMetadata, target: State, search: Mapping[str, Any], why: str, config: str, gate: str = ""
) -> CollectionMetadata:
    """The metadata with other options, storage or pipeline for the same vectors."""
    event = _event("changed settings", target, why, config, gate)
    return _with(metadata, event, live=target, search=dict(search))


def abandoned(metadata: CollectionMetadata, why: str, refusal: str = "") -> CollectionMetadata:
    """The metadata without the swap that was under way; its history keeps why the gate refused it."""
    event = _event("abandoned", _swap(metadata).target, why, gate=refusal)
    return _with(metadata, event, swap=None, live=metadata.live.without_temporary_queries())


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
    event = _event("rolled back", previous, why)
    return _with(
        metadata,
        event,
        live=previous,
        previous=metadata.live.without_temporary_queries(),
        search=metadata.previous_search,
        previous_search=metadata.search,
        behind=tuple(vector for vector in metadata.behind if vector not in behind),
    )


def finished(metadata: CollectionMetadata) -> CollectionMetadata:
    """The metadata without its previous generation."""
    event = _event("finished", metadata.live)
    return _with(metadata, event, previous=None, previous_search=None, behind=())


def cleared_behind(before: CollectionMetadata, after: CollectionMetadata) -> dict[str, Any]:
    """The `behind` marks that a change of the state makes void, to be removed in the same update."""
    return {behind_key(vector): None for vector in before.behind if vector not in after.behind}


def unused(before: CollectionMetadata, after: CollectionMetadata) -> dict[str, Generation]:
    """The generations whose vectors nothing needs any more, by vector."""
    kept = after.written()
    return {vector: generation for vector, (_, generation) in before.written().items() if vector not in kept}


def _swap(metadata: CollectionMetadata) -> Swap:
    if metadata.swap is None:
        raise SwapError("no swap is under way", do="begin one: diptych apply")
    return metadata.swap


def _event(what: What, state: State, why: str = "", config: str = "", gate: str = "") -> Event:
    slots = state.encoders()
    return Event(what=what, when=timestamp(), by=who(), why=why, config=config, slots=slots, gate=gate)


def _with(metadata: CollectionMetadata, event: Event, **changes: Any) -> CollectionMetadata:
    after = metadata.model_copy(update={**changes, "history": (*metadata.history, event)})
    orphaned = {
        vector: generation.kind for generation in unused(metadata, after).values() for vector in generation.vectors
    }
    made, needed = {**metadata.leftover, **orphaned}, after.needed()
    return after.model_copy(update={"leftover": {vector: made[vector] for vector in made if vector not in needed}})
