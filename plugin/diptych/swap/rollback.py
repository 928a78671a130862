"""`rollback` returns to the state before the last cut-over; `finish` drops the vectors that a rollback needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from diptych.errors import DiptychError, StateChanged, SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata
from diptych.metadata.store import raw_metadata
from diptych.populate.rejects import reason_of
from diptych.stores.retired_vectors import drop_orphans, orphans
from diptych.stores.server_errors import needs_answers
from diptych.swap.apply_types import generation_names
from diptych.swap.gate.decision import refusal_of
from diptych.swap.lease import Lease
from diptych.swap.transitions import metadata_after, rolled_back, write
from diptych.swap.vectors import StorageTrial, coverage, set_shared_storage


@dataclass(frozen=True, slots=True)
class StepBack:
    """The result of `rollback`, or of `finish`, after which no rollback is possible.

    Args:
        collection: its name.
        outcome: `rolled back`, `abandoned`, `finished`, or `nothing to finish` when no earlier vectors were kept.
        live: the generation that answers now, by slot.
        dropped: vectors that were dropped.
        retired: vectors that are no longer written, and that the next finish, apply or populate will drop.
        warnings: sentences, such as about points that have no live vector.
    """

    collection: str
    outcome: str
    live: dict[str, str]
    dropped: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@needs_answers("see diptych status once it does: the rollback may have been done")
def rollback(
    handle: CollectionHandle,
    *,
    why: str = "",
    anyway: bool = False,
    later: bool = False,
    stopped: threading.Event | None = None,
    seen: str = "",
) -> StepBack:
    """Abandon the swap under way; only if there is none, undo the last cut-over. One update; nothing is encoded.

    Where both exist, a second rollback undoes the cut-over; one more redoes it. If this handle has loaded encoders, it
    first loads those that will be live, so that nothing changes if one of them is gone.

    Args:
        why: the reason, for the history.
        anyway: roll back even if a populate could not write the earlier vectors of some documents.
        later, stopped: as in `finish`, for the vectors of an abandoned swap.
        seen: `state_token` of what the user saw; another state is not rolled back. Empty: whatever it is.

    Raises:
        ApplyRunning: a process is applying a swap just now.
        SwapError: there is nothing to roll back to, it misses documents, or its encoder cannot be loaded.
        StateChanged: the state is not the one that was seen.
        StoreUnavailable: the server does not answer.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        if seen and seen != state_token(before):
            last = before.history[-1] if before.history else None
            raise StateChanged(
                "the collection has changed since you looked: nothing was rolled back",
                where=f"collection {handle.name!r}",
                got=f"{last.what!r} by {last.by} at {last.when}" if last else "another state",
                expected="the state that was shown",
                do="look again, then decide",
            )
        StorageTrial(handle, lease, threading.Event()).put_back_after_a_kill(before)
        if before.swap is not None:
            refusal = refusal_of(raw_metadata(handle.client, handle.name), before.swap.began)
            live = before.live.without_temporary_queries()
            sentence, outcome = refusal.sentence if refusal else "", "abandoned"
            after = metadata_after(
                before, "abandoned", before.swap.target, why=why, gate=sentence, swap=None, live=live
            )
        else:
            after, outcome = rolled_back(before, handle.name, why, anyway=anyway), "rolled back"
        orphaned = orphans(handle.client, handle.name, after)
        warnings = _change_state(handle, before, after, lease)
    return _drop_orphaned(handle, outcome, orphaned, later or outcome != "abandoned", stopped, warnings)


@needs_answers("run the same finish again once it does")
def finish(handle: CollectionHandle, *, later: bool = False, stopped: threading.Event | None = None) -> StepBack:
    """Drop the vectors of the previous generation; populates then write only the live ones.

    On a server the vectors are retired at once and dropped three flush intervals of the collection later. Until then
    the server's log may hold writes that name them, and after a crash it would decline these as a whole, with all that
    they say of their documents (`diptych.stores.retired_vectors`). After a kill or stop in that wait, the next
    finish, apply or populate drops them.

    Running it again is harmless: the outcome is then `nothing to finish`, or `finished` when there were vectors left
    to drop.

    Args:
        later: do not wait; the vectors are dropped by a later finish, apply or populate.
        stopped: ends the wait.

    Raises:
        ApplyRunning: another process is applying a swap.
        SwapError: a swap is under way that has not cut over yet, and no earlier vectors are kept.
        StoreUnavailable: the server does not answer.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        StorageTrial(handle, lease, threading.Event()).put_back_after_a_kill(before)
        if before.previous is None and before.swap is not None:
            raise SwapError(
                "there is nothing to finish: the swap under way has not cut over yet",
                where=f"collection {handle.name!r}",
                got="no earlier vectors are kept",
                do="cut over first: diptych apply; or abandon the swap: diptych rollback",
            )
        after = before
        if before.previous is not None:
            after = metadata_after(before, "finished", before.live, previous=None, previous_search=None, behind=())
        orphaned = orphans(handle.client, handle.name, after)
        warnings = _change_state(handle, before, after, lease) if after is not before else ()
    done = _drop_orphaned(handle, "finished", orphaned, later, stopped, warnings)
    if before.previous is None and not (done.dropped or done.retired):
        return replace(done, outcome="nothing to finish")
    return done


def state_token(metadata: CollectionMetadata) -> str:
    """A short hash of what is live, being built and kept: two looks with the same one saw the same state."""
    parts = (metadata.live, metadata.previous, metadata.swap)
    text = json.dumps([part.model_dump(mode="json") if part else None for part in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _change_state(
    handle: CollectionHandle, before: CollectionMetadata, after: CollectionMetadata, lease: Lease
) -> tuple[str, ...]:
    """Make `after` the collection's state, for a rollback, an abandoned swap or a finish; returns warnings."""
    _load(handle, after)
    then = before.swap.target if before.swap else before.live  # an apply may have been killed while it cut over
    set_shared_storage(handle, then, after.live)  # before the write: a kill after it would leave this undone
    write(handle.client, handle.name, before, after, lease.forget())
    handle.install(after)
    return tuple(_gaps(handle, before, after))


def _drop_orphaned(
    handle: CollectionHandle,
    outcome: str,
    orphaned: Collection[str],
    later: bool,
    stopped: threading.Event | None,
    warnings: tuple[str, ...],
) -> StepBack:
    """Drop what is no longer needed, after the lease is released; such names are never used again."""
    after = handle.read()
    left = drop_orphans(handle.client, handle.name, after, only=orphaned, wait=not later, stopped=stopped)
    dropped, retired = generation_names(left.dropped), generation_names(left.waiting)
    return StepBack(handle.name, outcome, after.live.encoders(), dropped, retired, (*warnings, *left.lines()))


def _load(handle: CollectionHandle, after: CollectionMetadata) -> None:
    """Load the encoders that will be live, in a process that has loaded the live ones.

    Raises:
        SwapError: one cannot be loaded.
    """
    # A serving process must be able to answer after the change. The command has loaded nothing, and so it works on
    # a machine without the models.
    known = handle.metadata
    if (known and known.live == after.live) or not any(slot.loaded for slot in handle.slots.values()):
        return
    for slot in handle.at(after.live, after).slots.values():
        try:
            slot.load()
        except Exception as error:
            raise SwapError(
                "nothing was changed: an encoder that the rollback needs cannot be loaded",
                where=f"collection {handle.name!r}, {slot.where}",
                got=f"{error.what}: {error.got}" if isinstance(error, DiptychError) and error.got else reason_of(error),
                do="install what it needs; or use the command diptych rollback, which needs no encoder",
            ) from error
        handle.share_encoder(slot)


def _gaps(handle: CollectionHandle, before: CollectionMetadata, after: CollectionMetadata) -> Iterator[str]:
    """A sentence for each vector that is live again and missing in some points."""
    for name, generation in after.live.slots.items():
        if generation.vector in before.live.vectors():
            continue
        try:
            counted = coverage(handle.client, handle.name, generation)
        except Exception as error:
            yield f"slot {name!r}: how many points lack {generation.vector!r} could not be counted: {reason_of(error)}"
            continue
        if counted.missing:
            yield (
                f"slot {name!r} does not find {counted.missing:,} of {counted.points:,} points, which have no "
                f"{generation.vector!r}; to fill them, put the live encoders into the config and run diptych apply"
            )
