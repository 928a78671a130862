"""Copies what was written to the source after the last pass, before writers moved to the copy."""

from __future__ import annotations

from collections.abc import Mapping

from qdrant_client import models

from diptych.copying.base import Base, PointHashes
from diptych.copying.points import PointId, hash_of_payload, hash_of_point, plain_id, struct
from diptych.copying.side import Side


def copy_late_writes(source: Side, target: Side, base: Base, *, batch: int) -> int:
    """Copy what changed in the source since `base`, unless the target changed as well; returns the number of points.

    Nobody writes to the source any more; others write to the target. `base` is used up.
    """
    brought = 0
    for records, _ in source.pages(batch):
        late = {plain_id(record.id): hashes for record in records if (hashes := _changed(record, base)) is not False}
        if late:
            brought += _write([record for record in records if plain_id(record.id) in late], target, late)
    for deleted in base.remaining(batch):
        brought += _delete(deleted, target)
    return brought


def _changed(record: models.Record, base: Base) -> PointHashes | bool | None:
    """False when the point is unchanged; else its earlier hashes, None when it is new."""
    hashes = base.pop(plain_id(record.id))
    return False if hashes is not None and hashes.point == hash_of_point(record) else hashes


def _write(records: list[models.Record], target: Side, late: Mapping[PointId, PointHashes | bool | None]) -> int:
    target_records = target.points([plain_id(record.id) for record in records])
    unchanged = [
        record for record in records if _untouched(target_records.get(plain_id(record.id)), late[plain_id(record.id)])
    ]
    target.write([struct(record) for record in unchanged])
    return len(unchanged)


def _delete(deleted: Mapping[PointId, PointHashes], target: Side) -> int:
    target_records = target.points(list(deleted))
    unchanged = [identifier for identifier, record in target_records.items() if _untouched(record, deleted[identifier])]
    if unchanged:
        target.delete(unchanged)
    return len(unchanged)


def _untouched(target_record: models.Record | None, hashes: PointHashes | bool | None) -> bool:
    """Whether the target's point is still the copied one. Vectors are ignored, since a datatype may change them."""
    if target_record is None or not isinstance(hashes, PointHashes):
        return target_record is None and hashes is None
    return hash_of_payload(target_record) == hashes.payload
