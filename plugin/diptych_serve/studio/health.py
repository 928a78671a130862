"""The health of a collection: what it records and counts about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diptych import Collection
from diptych.config.problems import redacted
from diptych.errors import CollectionNotFound
from diptych.metadata.models import Generation
from diptych.metadata.store import stored_unread
from diptych.reports import UnreadTokens
from diptych.slots.unread import unread_warnings
from diptych.stores.versions import DiskUse, disk_use, version_warnings
from diptych.swap import Status, VectorStatus, status
from diptych_serve.studio.answers import HealthAnswer, SlotHealth
from diptych_serve.studio.sides import stale_config

_WIDTHS = {"float16": 2, "uint8": 1}  # bytes of a number; 4 unless it is stored shorter


def health(collection: Collection) -> HealthAnswer:
    """Who made each vector, what is missing or unread, and what the collection takes."""
    try:
        found = status(collection.handle)
    except CollectionNotFound:
        return HealthAnswer(sentences=["the collection is not filled yet: diptych populate SOURCE"])
    metadata = collection.handle.read()
    written = metadata.written()
    unread, used = stored_unread(collection.client, collection.name), disk_use(collection.client, collection.name)
    rows = [
        _row(collection, vector, written[vector.vector][1], unread.get(vector.vector), used) for vector in found.vectors
    ]
    return HealthAnswer(
        documents=found.documents,
        bytes=used.total if used else None,
        slots=rows,
        sentences=_sentences(collection, found, rows, unread),
        config=stale_config(collection, metadata),
    )


def _row(
    collection: Collection,
    vector: VectorStatus,
    generation: Generation,
    unread: UnreadTokens | None,
    used: DiskUse | None,
) -> SlotHealth:
    size, estimated = _bytes(generation, vector.points - vector.missing, used)
    return SlotHealth(
        name=vector.slot,
        role=vector.role,
        vector=vector.vector,
        adapter=vector.adapter,
        options=redacted(generation.options),
        fingerprint=vector.fingerprint,
        canaries=_canaries(collection, vector.slot, generation),
        unread=unread.share if unread else None,
        unread_sentence=str(unread) if unread else "",
        sampled=unread is not None and unread.sampled,
        points=vector.points,
        missing=vector.missing,
        bytes=size,
        estimated=estimated,
    )


def _bytes(generation: Generation, count: int, used: DiskUse | None) -> tuple[int | None, bool]:
    """What the vectors take: measured on this machine, else estimated for dense ones without their graph."""
    if used is not None:
        known = [used.vectors[name] for name in generation.vectors if name in used.vectors]
        return (sum(known), False) if known else (None, False)
    if generation.kind != "dense" or generation.dimension is None:
        return None, False
    width = _WIDTHS.get(str(generation.storage.get("datatype")), 4)
    return count * width * generation.dimension, True


def _canaries(collection: Collection, slot: str, generation: Generation) -> str:
    """What is known of the encoder's identity, without loading it."""
    if generation.canaries is None:
        return "none recorded" if generation.kind != "text_index" else "none needed: the store indexes the words"
    now = collection.handle.slots.get(slot)
    likeness = now.likeness if now is not None and now.generation == generation else None
    if likeness is None:
        return f"{len(generation.canaries.query)} recorded, compared before the encoder first serves"
    return f"the encoder makes the same vectors: lowest cosine {likeness.lowest:.4f}"


def _sentences(
    collection: Collection, found: Status, rows: Sequence[SlotHealth], unread: Mapping[str, UnreadTokens]
) -> list[str]:
    """What a user should look at, each with what to do; one sentence where there is nothing."""
    live = [row for row in rows if row.role == "live"]
    said = [
        f"slot {row.name!r}: {row.missing:,} of {row.points:,} documents have no vector, and it does not find them: "
        "diptych apply fills what can be filled"
        for row in live
        if row.missing
    ]
    said += unread_warnings({row.name: unread[row.vector] for row in live if row.vector in unread})
    behind = [vector.vector or vector.slot for vector in found.vectors if vector.behind]
    said += [f"{name} misses documents that a populate could not write" for name in behind]
    if found.swap:
        said.append("a swap is under way: see its timeline")
    if found.orphans:
        said.append(f"no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them")
    kinds = [slot.kind for slot in collection.handle.slots.values()]
    said += version_warnings(collection.client, kinds, tenants=collection.handle.view.tenancy is not None)
    return said or ["every document has its vectors, and nothing needs attention"]
