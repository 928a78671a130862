"""Copies what was written to the source after the last pass, before writers moved to the copy.

`Base` keeps on disk the state of the source when both sides were last equal, so that later writes can be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from qdrant_client import models

from diptych.copying.side import CopySide, hash_of_payload, hash_of_point, struct
from diptych.populate.seen_ids import temporary_tables
from diptych.stores.scroll import PointId, plain_id

CACHE_KIB = 16_384


def copy_late_writes(source: CopySide, target: CopySide, base: Base, *, batch: int) -> int:
    """Copy what changed in the source since `base`, unless the target changed as well; returns the number of points.

    Nobody writes to the source any more; others write to the target. `base` is used up.
    """
    brought = 0
    for records, _ in source.pages(batch):
        late = {plain_id(record.id): hashes for record in records if (hashes := _changed(record, base)) is not False}
        if late:
            brought += _write([record for record in records if plain_id(record.id) in late], target, late)
    for deleted in base.remaining(batch):
        target_records = target.points(list(deleted))
        unchanged = [
            identifier for identifier, record in target_records.items() if _untouched(record, deleted[identifier])
        ]
        if unchanged:
            target.delete(unchanged)
        brought += len(unchanged)
    return brought


def _changed(record: models.Record, base: Base) -> PointHashes | bool | None:
    """False when the point is unchanged; else its earlier hashes, None when it is new."""
    hashes = base.pop(plain_id(record.id))
    return False if hashes is not None and hashes.point == hash_of_point(record) else hashes


def _write(records: list[models.Record], target: CopySide, late: Mapping[PointId, PointHashes | bool | None]) -> int:
    target_records = target.points([plain_id(record.id) for record in records])
    unchanged = [
        record for record in records if _untouched(target_records.get(plain_id(record.id)), late[plain_id(record.id)])
    ]
    target.write([struct(record) for record in unchanged])
    return len(unchanged)


def _untouched(target_record: models.Record | None, hashes: PointHashes | bool | None) -> bool:
    """Whether the target's point is still the copied one. Vectors are ignored, since a datatype may change them."""
    if target_record is None or not isinstance(hashes, PointHashes):
        return target_record is None and hashes is None
    return hash_of_payload(target_record) == hashes.payload


@dataclass(frozen=True, slots=True)
class PointHashes:
    """Hashes of a point: of the whole point, and of its payload."""

    point: bytes
    payload: bytes


class Base:
    """A table in a temporary file, about 60 bytes per point; deleted with the process. For one thread."""

    def __init__(self) -> None:
        self._table = temporary_tables(CACHE_KIB)
        self._table.execute("CREATE TABLE known (id TEXT PRIMARY KEY, point BLOB, payload BLOB) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def clear(self) -> None:
        """Delete everything."""
        self._table.execute("DELETE FROM known")

    def add(self, records: Sequence[models.Record]) -> None:
        """Store the hashes of these points."""
        rows = [(repr(plain_id(record.id)), hash_of_point(record), hash_of_payload(record)) for record in records]
        self._table.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", rows)

    def unknown(self, identifiers: Iterable[PointId]) -> list[PointId]:
        """Those of these ids that were not added."""
        known = "SELECT 1 FROM known WHERE id = ?"
        return [one for one in identifiers if self._table.execute(known, (repr(one),)).fetchone() is None]

    def pop(self, identifier: PointId) -> PointHashes | None:
        """Return and delete the hashes of a point; None when it was not there."""
        row = self._table.execute("SELECT point, payload FROM known WHERE id = ?", (repr(identifier),)).fetchone()
        self._table.execute("DELETE FROM known WHERE id = ?", (repr(identifier),))
        return PointHashes(*row) if row else None

    def remaining(self, size: int) -> Iterator[dict[PointId, PointHashes]]:
        """The points that are left, in portions."""
        rows = self._table.execute("SELECT id, point, payload FROM known")
        while page := rows.fetchmany(size):
            yield {_id(text): PointHashes(point, payload) for text, point, payload in page}


def _id(text: str) -> PointId:
    return text[1:-1] if text.startswith("'") else int(text)
