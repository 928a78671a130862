"""Copies what was written to the source after the last pass, before writers moved to the copy."""

from __future__ import annotations

from collections.abc import Mapping

from qdrant_client import models

from diptych.copying.base import Base, Known
from diptych.copying.points import PointId, hash_of_payload, hash_of_point, plain_id, struct
from diptych.copying.side import Side


def bring_late(source: Side, target: Side, base: Base, *, batch: int) -> int:
    """Copy what changed in the source since `base`, unless the target changed as well; returns the number of points.

    Nobody writes to the source any more; others write to the target. `base` is used up.
    """
    brought = 0
    for records, _ in source.pages(batch):
        late = {plain_id(record.id): known for record in records if (known := _changed(record, base)) is not False}
        if late:
            brought += _write([record for record in records if plain_id(record.id) in late], target, late)
    for gone in base.rest(batch):
        brought += _delete(gone, target)
    return brought


def _changed(record: models.Record, base: Base) -> Known | bool | None:
    """False when the point is unchanged; else its earlier hashes, None when it is new."""
    known = base.pop(plain_id(record.id))
    return False if known is not None and known.point == hash_of_point(record) else known


def _write(records: list[models.Record], target: Side, late: Mapping[PointId, Known | bool | None]) -> int:
    there = target.points([plain_id(record.id) for record in records])
    ours = [record for record in records if _untouched(there.get(plain_id(record.id)), late[plain_id(record.id)])]
    target.write([struct(record) for record in ours])
    return len(ours)


def _delete(gone: Mapping[PointId, Known], target: Side) -> int:
    there = target.points(list(gone))
    ours = [identifier for identifier, record in there.items() if _untouched(record, gone[identifier])]
    if ours:
        target.delete(ours)
    return len(ours)


def _untouched(there: models.Record | None, known: Known | bool | None) -> bool:
    """Whether the target's point is still the copied one. Vectors are ignored, since a datatype may change them."""
    if there is None or not isinstance(known, Known):
        return there is None and known is None
    return hash_of_payload(there) == known.payload
