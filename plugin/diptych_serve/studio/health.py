"""The health of a collection, from what it records and counts: no encoder is loaded and no query is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.config.secrets import redacted
from diptych.errors import CollectionNotFound
from diptych.metadata.media_payloads import has_media
from diptych.metadata.models import Generation
from diptych.metadata.store import stored_unread
from diptych.populate.store import lacking
from diptych.reports import UnreadTokens
from diptych.slots.unread import unread_warnings
from diptych.stores.upkeep import DiskUse, disk_use
from diptych.stores.versions import version_warnings
from diptych.swap import Status, status
from diptych_serve.studio.generations import stale_config

_WIDTHS = {"float16": 2, "uint8": 1}  # bytes of a number; 4 unless it is stored shorter


def health(collection: Collection) -> dict[str, Any]:
    """Who made each vector, what is missing or unread, and what the collection takes, as JSON values."""
    try:
        found = status(collection.handle)
    except CollectionNotFound:
        sentence = "the collection is not filled yet: diptych populate SOURCE"
        return {"documents": 0, "bytes": None, "slots": [], "sentences": [sentence], "config": None}
    metadata = collection.handle.read()
    written = metadata.written()
    unread, used = stored_unread(collection.client, collection.name), disk_use(collection.client, collection.name)
    rows = [
        _row(collection, slot, generation, found, unread.get(vector), used)
        for vector, (slot, generation) in written.items()
    ]
    return {
        "documents": found.documents,
        "bytes": used.total if used else None,
        "slots": rows,
        "sentences": [*_sentences(collection, found, rows, unread)],
        "config": stale_config(collection, metadata),
    }


def _row(
    collection: Collection,
    slot: str,
    generation: Generation,
    found: Status,
    unread: UnreadTokens | None,
    used: DiskUse | None,
) -> dict[str, Any]:
    role = next((vector.role for vector in found.vectors if vector.vector == generation.vector), "live")
    points, missing = _counts(collection, generation, found.documents)
    size, estimated = _bytes(generation, points - missing, used)
    return {
        "name": slot,
        "kind": generation.kind,
        "of": generation.reading.modality,
        "role": role,
        "vector": generation.vector,
        "generation": generation.number,
        "adapter": generation.adapter,
        "options": redacted(generation.options),
        "fingerprint": str(generation.fingerprint),
        "canaries": _canaries(collection, slot, generation),
        "unread": unread.share if unread else None,
        "unread_sentence": str(unread) if unread else "",
        "sampled": unread is not None and unread.sampled,
        "points": points,
        "missing": missing,
        "bytes": size,
        "estimated": estimated,
    }


def _counts(collection: Collection, generation: Generation, documents: int) -> tuple[int, int]:
    """How many documents should have the vector, and how many of them lack it."""
    lack, modality = lacking(generation), generation.reading.modality
    if modality == "text":
        return documents, _count(collection, lack)
    media = has_media(modality)  # documents without media of this kind need no vector
    return _count(collection, media), _count(collection, models.Filter(must=[media, lack]))


def _count(collection: Collection, where: models.Filter) -> int:
    return collection.client.count(collection.name, count_filter=where, exact=True).count


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
    collection: Collection, found: Status, rows: list[dict[str, Any]], unread: Mapping[str, UnreadTokens]
) -> Iterator[str]:
    """What a user should look at, each with what to do; one sentence where there is nothing."""
    live = [row for row in rows if row["role"] == "live"]
    said = [
        f"slot {row['name']!r}: {row['missing']:,} of {row['points']:,} documents have no vector, and it does not find "
        "them: diptych apply fills what can be filled"
        for row in live
        if row["missing"]
    ]
    said += unread_warnings({row["name"]: unread[row["vector"]] for row in live if row["vector"] in unread})
    said += [
        f"{vector.vector or vector.slot} misses documents that a populate could not write"
        for vector in found.vectors
        if vector.behind
    ]
    if found.swap:
        said.append("a swap is under way: see its timeline")
    if found.orphans:
        said.append(f"no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them")
    kinds = [slot.kind for slot in collection.handle.slots.values()]
    said += version_warnings(collection.client, kinds, tenants=collection.handle.view.tenancy is not None)
    yield from said or ["every document has its vectors, and nothing needs attention"]
