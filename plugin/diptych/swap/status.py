"""`status`: which vectors are live, being built and kept, and the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import stored_search
from diptych.metadata.models import CollectionMetadata, Event, Generation
from diptych.metadata.store import APPLY, raw_metadata
from diptych.stores.retired_vectors import orphans
from diptych.stores.server_errors import needs_answers
from diptych.swap.changes import named
from diptych.swap.gate.decision import refusal_of, threshold_is_stale
from diptych.swap.lease import lease_of
from diptych.swap.vectors import coverage

Role: TypeAlias = Literal["live", "building", "kept"]


@dataclass(frozen=True, slots=True)
class VectorStatus:
    """A physical vector: its slot and role, what made it, and how many points lack it.

    `role`: `live` answers queries; `building` will after the cut-over; `kept` did before the last one.
    `behind`: a populate could not write it, so that a rollback to it misses documents.
    `asking`: who makes the queries instead, and why; empty where the encoder does it itself.
    """

    slot: str
    vector: str
    role: Role
    number: int
    adapter: str
    model: str
    fingerprint: str
    points: int
    missing: int
    behind: bool = False
    asking: str = ""


@dataclass(frozen=True, slots=True)
class SwapStatus:
    """A swap under way: when it began, who began it, and which process applies it now, if any.

    `filled`: whether the back-fill of every new vector has ended, so that only the gate and the cut-over are left.
    `refused`: the gate's outcome and reasons if it kept the old encoders when this was last applied, and `refused_at`
    when; empty if it did not.
    """

    began: str
    by: str
    why: str
    config: str
    running: bool
    holder: str
    last_heard: str
    filled: bool = False
    refused: str = ""
    refused_at: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The result of `status`.

    Args:
        vectors: the live ones, then those being built, then those kept.
        swap: the swap under way; None without.
        orphans: vectors that diptych made and nothing needs, retired or left by a kill; the next finish, apply or
            populate drops them.
        history: what was done, oldest first.
        can_roll_back: whether `rollback` can undo the last cut-over; one that only added slots keeps no vector.
        refused: why the gate kept the search settings when others were last applied, and `refused_at` when; else empty.
        stale: that the live score threshold is of the scores of an earlier state; empty if it is not.
    """

    collection: str
    documents: int
    vectors: tuple[VectorStatus, ...]
    swap: SwapStatus | None = None
    orphans: tuple[str, ...] = ()
    history: tuple[Event, ...] = ()
    can_roll_back: bool = False
    refused: str = ""
    refused_at: str = ""
    stale: str = ""


@needs_answers("try again once it does")
def status(handle: CollectionHandle) -> Status:
    """The state of a collection. Loads no encoder.

    Raises:
        CollectionNotFound: there is no collection yet.
    """
    metadata = handle.read()
    vectors = tuple(_vectors(handle, metadata))
    refusal = None if metadata.swap else refusal_of(raw_metadata(handle.client, handle.name), None)
    return Status(
        collection=handle.name,
        documents=handle.client.count(handle.name, exact=True).count,
        vectors=vectors,
        swap=_swap(handle, metadata, vectors),
        orphans=tuple(sorted(orphans(handle.client, handle.name, metadata))),
        history=metadata.history,
        can_roll_back=metadata.previous is not None,
        refused=refusal.sentence if refusal else "",
        refused_at=refusal.when if refusal else "",
        stale=_stale(metadata),
    )


def _stale(metadata: CollectionMetadata) -> str:
    """What the last changes said of the live score threshold: a stale one may hide every hit."""
    threshold = stored_search(metadata).score_threshold
    if threshold is None or not metadata.search:
        return ""
    sentence, live, kept = threshold_is_stale(threshold), False, False
    for event in metadata.history:
        if event.what == "rolled back":
            live, kept = kept, live
        elif event.what in ("cut over", "changed settings"):
            kept = live if event.what == "cut over" else kept
            live = live or sentence in event.gate
    return sentence if live else ""


def _vectors(handle: CollectionHandle, metadata: CollectionMetadata) -> Iterator[VectorStatus]:
    """Every vector once, with its most important role."""
    roles: dict[str, tuple[str, Generation, Role]] = {}
    building = metadata.swap.building if metadata.swap else {}
    kept = metadata.previous.slots if metadata.previous else {}
    for role, slots in (("live", metadata.live.slots), ("building", building), ("kept", kept)):
        for name, generation in slots.items():  # `setdefault`: a vector that is live and kept is shown as live
            roles.setdefault(generation.vector, (name, generation, role))  # type: ignore[arg-type]
    for name, generation, role in roles.values():
        counted = coverage(handle.client, handle.name, generation)
        queries = metadata.live.asking.get(name) if role == "live" else None
        yield VectorStatus(
            slot=name,
            vector=generation.vector,
            role=role,
            number=generation.number,
            adapter=generation.adapter,
            model=str(generation.options.get("model", "")),
            fingerprint=str(generation.fingerprint),
            points=counted.points,
            missing=counted.missing,
            behind=generation.vector in metadata.behind,
            asking=f"queries by {named(queries.generation)}: {queries.why}" if queries else "",
        )


def _swap(handle: CollectionHandle, metadata: CollectionMetadata, vectors: Sequence[VectorStatus]) -> SwapStatus | None:
    swap = metadata.swap
    if swap is None:
        return None
    raw = raw_metadata(handle.client, handle.name)
    lease, refusal = lease_of(raw.get(APPLY)), refusal_of(raw, swap.began)
    reached, names = lease.checkpoints if lease else {}, [generation.vector for generation in swap.building.values()]
    # Points without a text lack the vector for ever, so the count alone would never say that it is complete.
    missing = {vector_status.vector: vector_status.missing for vector_status in vectors}
    return SwapStatus(
        began=swap.began,
        by=swap.by,
        why=swap.why,
        config=swap.config,
        running=lease is not None and lease.alive,
        holder=f"process {lease.pid} of {lease.by}" if lease else "",
        last_heard=lease.at if lease else "",
        filled=all((name in reached and reached[name].complete) or not missing.get(name) for name in names),
        refused=refusal.sentence.removeprefix("failed: ") if refusal else "",  # as earlier releases began it
        refused_at=refusal.when if refusal else "",
    )
