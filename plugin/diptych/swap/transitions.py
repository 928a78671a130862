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
from diptych.metadata.models import CollectionMetadata, Event, State, What
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

    The same call retires vectors that the metadata no longer needs, and forgets what the gate said of a swap that ends
    and which kept vectors missed documents.

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
    void |= {behind_key(vector): None for vector in before.behind if vector not in metadata.behind}
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


def cut_over(metadata: CollectionMetadata, gate: str) -> CollectionMetadata:
    """The metadata with the swap's target live, and the live state as `previous`."""
    # After a rollback each slot's own encoder, or its student, makes its queries again.
    swap = metadata.swap
    if swap is None:
        raise SwapError("no swap is under way", do="begin one: diptych apply")
    return changed(
        metadata,
        "cut over",
        swap.target,
        why=swap.why,
        config=swap.config,
        gate=gate,
        live=swap.target,
        previous=metadata.live.without_temporary_queries(),
        previous_search=metadata.search,
        search=swap.search,
        swap=None,
        behind=(),
    )


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
    return changed(
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


def changed(
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
