"""`SeenIds`: the documents that this run has seen, in a temporary file so that memory does not grow."""

from __future__ import annotations

import hashlib
import mmap
import sqlite3
from contextlib import AbstractContextManager
from enum import Enum, auto
from types import TracebackType

import numpy as np

CACHE_KIB = 65_536  # memory for the table; the rest of it is in a file that the system deletes with the process
NEWEST = 8192  # ids in a dictionary until inserted with one statement; one per id would wait for the GIL each time
FILTER_BITS = 1 << 27  # 16 MiB, in use after some thousand ids; up to ten million it recognises nearly every new id
PLACES = 4  # bits of a key in the filter
KEY, HELD = 16, 33  # bytes of a digest, and of the record kept per id: a mark, the content hash, the point's digest
MENTIONED = bytes(HELD)  # record of an id that the source names, but whose document was rejected


class ClaimResult(Enum):
    """The result of `SeenIds.claim`."""

    FIRST = auto()
    SAME = auto()
    OTHER_CONTENT = auto()


def temporary_tables(cache_kib: int, *, one_thread: bool = True) -> sqlite3.Connection:
    """A database of this process alone, with so much of it in memory; the rest goes with the process.

    Args:
        one_thread: whether SQLite refuses other threads; otherwise the caller lets in one at a time.
    """
    # "" is SQLite's private temporary file.
    base = sqlite3.connect("", isolation_level=None, check_same_thread=one_thread)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{cache_kib}"):
        base.execute(f"PRAGMA {pragma}")
    return base


class SeenIds(AbstractContextManager["SeenIds"]):
    """The ids seen so far: the newest in a dictionary, the others in a table on disk, about 60 bytes per document.

    Per document it keeps a 16-byte digest of the id, the content hash and a digest of the point. Only the thread that
    created it may use it.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, bytes] = {}
        self._base: sqlite3.Connection | None = None
        self._filter: _Filter | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._base is not None:
            self._base.close()
        if self._filter is not None:
            self._filter.close()

    def claim(self, identifier: str, content_hash: str, point: int | str) -> ClaimResult:
        """Claim the id for this content, unless an earlier document has it."""
        key, content = _digest(identifier), bytes.fromhex(content_hash)
        known = self._known(key)
        if known in (None, MENTIONED):
            self._hold(key, b"\x01" + content + _digest(str(point)))
            return ClaimResult.FIRST
        return ClaimResult.SAME if known[1 : 1 + KEY] == content else ClaimResult.OTHER_CONTENT

    def claim_point(self, point: int | str, identifier: str) -> bool:
        """Claim the point for a document; False if another document of this run has it."""
        key, owner = _digest(str(point)), _digest(identifier)
        tables = self._tables()
        tables.execute("INSERT OR IGNORE INTO points VALUES (?, ?)", (key, owner))
        ((known,),) = tables.execute("SELECT id FROM points WHERE point = ?", (key,))
        return bool(known == owner)

    def mention(self, identifier: str) -> None:
        """Record that the source has this id, though its document cannot be indexed."""
        key = _digest(identifier)
        if self._known(key) is None:
            self._hold(key, MENTIONED)

    def accounts_for(self, identifier: str, point: int | str | None) -> bool:
        """Whether this run's source has the document at this very point; None stands for any point."""
        known = self._known(_digest(identifier))
        return known is not None and (point is None or known == MENTIONED or known[1 + KEY :] == _digest(str(point)))

    def _known(self, key: bytes) -> bytes | None:
        """The earlier entry of an id."""
        if (held := self._newest.get(key)) is not None:
            return held
        if self._filter is None or not self._filter.may_hold(key):
            return None
        row = self._tables().execute("SELECT held FROM seen WHERE id = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _hold(self, key: bytes, held: bytes) -> None:
        self._newest[key] = held
        if len(self._newest) >= NEWEST:
            rows = b"".join(one + self._newest[one] for one in sorted(self._newest))
            self._tables().execute(
                "WITH RECURSIVE row(at) AS (SELECT 1 UNION ALL SELECT at + :all FROM row WHERE at + :all <= :bytes) "
                "INSERT OR REPLACE INTO seen SELECT substr(:rows, at, :key), substr(:rows, at + :key, :held) FROM row",
                {"rows": rows, "all": KEY + HELD, "bytes": len(rows), "key": KEY, "held": HELD},
            )
            self._filter = self._filter or _Filter()
            self._filter.add(b"".join(self._newest))
            self._newest.clear()

    def _tables(self) -> sqlite3.Connection:
        """The tables on disk, made when they are first needed: a run over a few documents needs none."""
        if self._base is None:
            self._base = temporary_tables(CACHE_KIB)
            self._base.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, held BLOB) WITHOUT ROWID")
            self._base.execute("CREATE TABLE points (point BLOB PRIMARY KEY, id BLOB) WITHOUT ROWID")
            self._base.execute("BEGIN")
        return self._base


class _Filter:
    """A Bloom filter: certain that a key is new, or unsure.

    Source: B. Bloom, Space/time trade-offs in hash coding with allowable errors (1970).
    """

    def __init__(self) -> None:
        self._bits = mmap.mmap(-1, FILTER_BITS // 8)  # pages become memory when they are first written to

    def add(self, keys: bytes) -> None:
        """Add keys, given one after the other: many at once take a fraction of the time."""
        halves = np.frombuffer(keys, "<u8").reshape(-1, 2)
        places, steps = halves[:, 0], halves[:, 1] | np.uint64(1)
        bits = np.frombuffer(self._bits, np.uint8)
        for turn in range(PLACES):
            at = (places + np.uint64(turn) * steps) & np.uint64(FILTER_BITS - 1)
            np.bitwise_or.at(bits, at >> np.uint64(3), np.uint8(1) << (at & np.uint64(7)).astype(np.uint8))

    def may_hold(self, key: bytes) -> bool:
        """Whether a key may have been added."""
        bits, place = self._bits, int.from_bytes(key[:8], "little")
        step = int.from_bytes(key[8:], "little") | 1
        for _ in range(PLACES):
            if not bits[(place & (FILTER_BITS - 1)) >> 3] & 1 << (place & 7):
                return False
            place += step
        return True

    def close(self) -> None:
        """Free the memory."""
        self._bits.close()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=KEY).digest()
