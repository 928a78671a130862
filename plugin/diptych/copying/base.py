"""`Base`: the state of the source when both sides were last equal, on disk, to detect later writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from qdrant_client import models

from diptych.copying.points import PointId, hash_of_payload, hash_of_point, plain_id

CACHE_KIB = 16_384


@dataclass(frozen=True, slots=True)
class PointHashes:
    """Hashes of a point: of the whole point, and of its payload."""

    point: bytes
    payload: bytes


class Base:
    """A table in a temporary file, about 60 bytes per point; deleted with the process. For one thread."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)  # "" is SQLite's private temporary file
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            self._table.execute(f"PRAGMA {pragma}")
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
