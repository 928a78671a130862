"""`SeenIds`: which documents this run has met, in a temporary file so that memory does not grow with the corpus."""

from __future__ import annotations

import hashlib
import sqlite3
from enum import Enum, auto
from types import TracebackType
from typing import Self

CACHE_KIB = 65_536  # of the table in memory; the rest lies in a file that the system deletes with the process


class Meeting(Enum):
    """What `SeenIds.claim` found."""

    FIRST = auto()
    SAME = auto()
    OTHER_CONTENT = auto()


class SeenIds:
    """A table on disk: a 16-byte digest of a document's id, its content hash and its point; about 60 bytes a document.

    Serves one thread, the one that made it.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)  # "" is SQLite's private temporary file
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, content BLOB, point BLOB) WITHOUT ROWID")
        self._base.execute("CREATE TABLE points (point BLOB PRIMARY KEY, id BLOB) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def claim(self, identifier: str, content_hash: str, point: int | str) -> Meeting:
        """Take the id for this content, unless a document before has it."""
        key, content = _digest(identifier), bytes.fromhex(content_hash)
        taken = self._base.execute(
            "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET content = excluded.content, point = excluded.point WHERE content IS NULL",
            (key, content, _digest(str(point))),
        )
        if taken.rowcount:
            return Meeting.FIRST
        ((known,),) = self._base.execute("SELECT content FROM seen WHERE id = ?", (key,))
        return Meeting.SAME if known == content else Meeting.OTHER_CONTENT

    def claim_point(self, point: int | str, identifier: str) -> bool:
        """Take the point for a document; False when another document of this run has it."""
        key, owner = _digest(str(point)), _digest(identifier)
        self._base.execute("INSERT OR IGNORE INTO points VALUES (?, ?)", (key, owner))
        ((known,),) = self._base.execute("SELECT id FROM points WHERE point = ?", (key,))
        return bool(known == owner)

    def mention(self, identifier: str) -> None:
        """Note that the source has this id, though what it has there cannot be indexed."""
        self._base.execute("INSERT OR IGNORE INTO seen VALUES (?, NULL, NULL)", (_digest(identifier),))

    def accounts_for(self, identifier: str, point: int | str | None) -> bool:
        """Whether this run's source has the document, and would put it at this very point; None stands for any."""
        rows = self._base.execute("SELECT point FROM seen WHERE id = ?", (_digest(identifier),)).fetchall()
        return bool(rows) and (point is None or rows[0][0] in (None, _digest(str(point))))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
