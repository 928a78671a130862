"""Begins a copy: creates the target, or finds the one that an earlier run began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.copying import target_collection
from diptych.copying.record import CopyRecord, record_of
from diptych.copying.side import CopySide
from diptych.copying.target_collection import NO_EXTRA, Extra
from diptych.errors import CopyError
from diptych.handle.create import timestamp, who
from diptych.metadata.store import KEY, read_metadata
from diptych.stores.retired_vectors import existing, orphans

if TYPE_CHECKING:
    from diptych.registry import Registry


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is known before the first point is copied: the source, its payload indexes, and the target's progress."""

    record: CopyRecord
    info: models.CollectionInfo
    indexes: dict[str, Any]
    resumed: bool
    extra: Extra


def begin(source: CopySide, target: CopySide, registry: Registry | None, extra: Extra = NO_EXTRA) -> Preparation:
    """Create the target, or find it unfinished or finished.

    Raises:
        CollectionNotFound: there is no source.
        CopyError: the target is something else than a copy of this source; or the source is between two states.
    """
    if (source.place, source.name) == (target.place, target.name):
        what = "a collection cannot be copied onto itself"
        raise CopyError(what, where=source, do="name the copy: --as NAME, or another store")
    metadata = read_metadata(source.client, source.name)  # raises for a source that is not there or itself unfinished
    info = source.info()
    require_coherent(source, info)
    # The parts of the target that differ: without vectors that diptych made or adopted and no state needs.
    orphaned = orphans(source.client, source.name, metadata) if metadata else {}
    unused = [vector for vector, kind in orphaned.items() if kind != "text_index"]
    if unused:
        source.vectors = target.vectors = sorted(existing(source.client, source.name).difference(unused))
    extra = {**dict.fromkeys(unused), **extra}
    indexes = target_collection.indexes_of(source, info, metadata, registry)
    if target.exists():
        return Preparation(_existing_record(source, target, info, extra), info, indexes, True, extra)
    record = CopyRecord(store=source.place, collection=source.name, began=timestamp(), by=who())
    target_collection.create(source, target, info, record.payload(), extra)
    return Preparation(record, info, indexes, False, extra)


def require_coherent(source: CopySide, info: models.CollectionInfo) -> None:
    """Raise CopyError while a swap is under way in the source: its new vectors are filled for that collection only."""
    raw = (info.config.metadata or {}).get(KEY)
    if not isinstance(raw, dict) or raw.get("swap") is None:
        return
    raise CopyError(
        "a swap of encoders is under way in the source",
        where=source,
        expected="no swap under way: a copy would hold half-filled vectors that nothing fills",
        do="finish it or undo it first: diptych apply, or diptych rollback; then run it again",
    )


def _existing_record(source: CopySide, target: CopySide, info: models.CollectionInfo, extra: Extra) -> CopyRecord:
    target_info = target.info()
    record = record_of(target_info.config.metadata or {}, str(target))
    if record is None:
        kind = "a diptych collection" if KEY in (target_info.config.metadata or {}) else "a collection"
        raise CopyError(
            "the target exists and is not a copy",
            where=target,
            got=f"{kind} of {target.count()} points",
            do="copy under another name: --as NAME; or delete that collection with the Qdrant client",
        )
    if (record.store, record.collection) != (source.place, source.name):
        raise CopyError(
            "the target is a copy of another collection",
            where=target,
            got=record.source,
            expected=str(source),
            do="copy under another name: --as NAME; if it is the same source, call it what it was called then",
        )
    target_collection.require_same(source, target, info, target_info, extra)
    return record
