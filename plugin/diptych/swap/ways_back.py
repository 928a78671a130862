"""`rollback` and `finish`: back to what was live before, or no way back any more."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from diptych.errors import DiptychError, SwapError
from diptych.handle import CollectionHandle
from diptych.metadata import CollectionMetadata
from diptych.populate.aside import reason_of
from diptych.swap.gate_coverage import coverage
from diptych.swap.lease import Lease
from diptych.swap.states import abandoned, caught_up, finished, rolled_back, unused, write
from diptych.swap.trial import StorageTrial
from diptych.swap.vectors import drop_all, drop_orphans, restore_shared


@dataclass(frozen=True, slots=True)
class StepBack:
    """What `rollback` or `finish` did.

    Args:
        collection: its name.
        outcome: `rolled back`, `abandoned`, `finished`, or `nothing to finish` when no earlier vectors were kept.
        live: what answers now, by slot.
        dropped: vectors that were dropped.
        warnings: what to look at, such as points that what answers now does not find.
    """

    collection: str
    outcome: str
    live: dict[str, str]
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def rollback(handle: CollectionHandle, *, why: str = "", anyway: bool = False) -> StepBack:
    """Give up the swap under way, or go back to what was live before the last cut-over: one update, nothing is encoded.

    A second rollback goes forward again. Where this handle has loaded encoders it loads those that will answer first,
    so that one that is gone changes nothing.

    Args:
        why: a word for the history.
        anyway: go back although a populate could not write the earlier vectors of documents that came since.

    Raises:
        ApplyRunning: a process is applying a swap just now.
        SwapError: there is nothing to go back to, it misses documents, or its encoder cannot be loaded.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        StorageTrial(handle, lease, threading.Event()).put_back_after_a_kill(before)
        if before.swap is not None:
            after, outcome = abandoned(before, why), "abandoned"
        else:
            after, outcome = rolled_back(before, handle.name, why, anyway=anyway), "rolled back"
        return _done(handle, before, after, outcome, lease)


def finish(handle: CollectionHandle) -> StepBack:
    """Drop the vectors of the previous generation; from then on populates write only the live ones.

    Running it again is harmless: the outcome is then `nothing to finish`, or `finished` when a killed run had left
    vectors to drop.

    Raises:
        ApplyRunning: another process is applying a swap.
        SwapError: a swap is under way that has not cut over yet, and no earlier vectors are kept.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        StorageTrial(handle, lease, threading.Event()).put_back_after_a_kill(before)
        dropped = drop_orphans(handle.client, handle.name, before)
        if before.previous is not None:
            return _done(handle, before, finished(before), "finished", lease)
        if before.swap is not None:
            raise SwapError(
                "there is nothing to finish: the swap under way has not cut over yet",
                where=f"collection {handle.name!r}",
                got="no earlier vectors are kept",
                do="cut over first: diptych apply; or give the swap up: diptych rollback",
            )
        return StepBack(handle.name, "finished" if dropped else "nothing to finish", _encoders(before), dropped)


def _done(
    handle: CollectionHandle, before: CollectionMetadata, after: CollectionMetadata, outcome: str, lease: Lease
) -> StepBack:
    _load(handle, after)
    then = before.swap.target if before.swap else before.live  # an apply may have been killed while it cut over
    restore_shared(handle, then, after.live)  # before the state says so, since a kill after that leaves it so
    write(handle.client, handle.name, after, {**caught_up(before, after), **lease.forget()})
    handle.install(after)
    needless = unused(before, after)
    dropped = drop_all(handle.client, handle.name, needless.values())
    warnings = (*_gaps(handle, before, after), *_kept(needless.keys() - set(dropped)))
    return StepBack(handle.name, outcome, _encoders(after), dropped, warnings)


def _encoders(metadata: CollectionMetadata) -> dict[str, str]:
    return {name: f"{own.adapter}, generation {own.number}" for name, own in metadata.live.slots.items()}


def _load(handle: CollectionHandle, after: CollectionMetadata) -> None:
    """Load the encoders that will answer, in a process that has loaded those that answer now.

    Raises:
        SwapError: one cannot be loaded.
    """
    known = handle.metadata
    if (known and known.live == after.live) or not any(slot.loaded for slot in handle.slots.values()):
        return
    for slot in handle.at(after.live, after).slots.values():
        try:
            slot.load()
        except Exception as error:
            raise SwapError(
                "nothing was changed: an encoder that would be live again cannot be loaded",
                where=f"collection {handle.name!r}, {slot.where}",
                got=f"{error.what}: {error.got}" if isinstance(error, DiptychError) and error.got else reason_of(error),
                do="install what it needs; the command diptych rollback loads no encoder and goes back in any case",
            ) from error
        handle.keep(slot)


def _gaps(handle: CollectionHandle, before: CollectionMetadata, after: CollectionMetadata) -> Iterator[str]:
    """A sentence for each vector that answers again and that some points lack; counted when the way back is done."""
    for name, own in after.live.slots.items():
        if own.vector in before.live.vectors():
            continue
        try:
            found = coverage(handle.client, handle.name, own)
        except Exception as error:
            yield f"slot {name!r}: how many points lack {own.vector!r} could not be counted: {reason_of(error)}"
            continue
        if found.missing:
            yield (
                f"slot {name!r} does not find {found.missing:,} of {found.points:,} points, which have no "
                f"{own.vector!r}; to fill them, put the live encoders into the config and run diptych apply"
            )


def _kept(vectors: Collection[str]) -> Iterator[str]:
    if vectors:
        names = ", ".join(sorted(vectors))
        yield f"this server cannot drop a vector: {names} stays until the next swap makes a collection without it"
