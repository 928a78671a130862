"""`rollback` and `finish`: back to what was live before, or no way back any more."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.errors import SwapError
from diptych.handle import CollectionHandle
from diptych.metadata import CollectionMetadata
from diptych.swap.lease import Lease
from diptych.swap.states import abandoned, finished, other_keys, rolled_back, unused, write
from diptych.swap.vectors import drop, drop_orphans, restore_shared


@dataclass(frozen=True, slots=True)
class StepBack:
    """What was done, `rolled back`, `abandoned` or `finished`; what answers now, and which vectors were dropped."""

    collection: str
    outcome: str
    live: dict[str, str]
    dropped: tuple[str, ...] = ()


def rollback(handle: CollectionHandle, *, why: str = "") -> StepBack:
    """Give up the swap under way, or go back to what was live before the last cut-over: one update, nothing is encoded.

    A second rollback goes forward again.

    Raises:
        ApplyRunning: a process is applying a swap just now.
        SwapError: there is nothing to go back to, or it misses documents.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        if before.swap is not None:
            after, outcome = abandoned(before, why), "abandoned"
        else:
            after, outcome = rolled_back(before, handle.name, why), "rolled back"
        return _done(handle, before, after, outcome, lease)


def finish(handle: CollectionHandle) -> StepBack:
    """Drop the vectors of the generation before; populates write only the live ones from then on.

    Raises:
        ApplyRunning: a process is applying a swap just now.
        SwapError: nothing waits to be finished.
    """
    with Lease(handle.client, handle.name) as lease:
        before = handle.read()
        drop_orphans(handle.client, handle.name, before)
        if before.previous is None:
            raise SwapError(
                "there is nothing to finish",
                where=f"collection {handle.name!r}",
                got="no earlier generation is kept",
                do="diptych status shows where everything is",
            )
        return _done(handle, before, finished(before), "finished", lease)


def _done(
    handle: CollectionHandle, before: CollectionMetadata, after: CollectionMetadata, outcome: str, lease: Lease
) -> StepBack:
    lease.forget()
    write(handle.client, handle.name, after, other_keys(before, after))
    handle.install(after)
    restore_shared(handle, before.live, after.live)
    dropped = unused(before, after)
    for vector, generation in dropped.items():
        drop(handle.client, handle.name, vector, generation.kind)
    live = {name: f"{own.adapter}, generation {own.number}" for name, own in after.live.slots.items()}
    return StepBack(handle.name, outcome, live, tuple(dropped))
