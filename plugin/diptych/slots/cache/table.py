"""`VectorTable`: packed vectors by key in one SQLite file of limited size; the least recently used are dropped first.

| table | holds |
|---|---|
| `spaces` | what made vectors, in words, for those who look |
| `models` | canaries of models that can change behind their names |
| `entries` | key, space, size and when it was last used: small rows, all that a clean-up reads |
| `vectors` | the packed vector of an entry, in the order of arrival: a corpus read again is read from front to back |

Every method raises `sqlite3.Error` when the file fails; `diptych.slots.cache.open_table` makes and checks files.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PAGE = 16384  # fits common vectors: 95% full with 384 and 768 dimensions, 75% with 1024; 8192 gives 95, 75, 50
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS spaces (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, label TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS models (id INTEGER PRIMARY KEY, name BLOB NOT NULL, canaries TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, space INTEGER NOT NULL, "
    "used INTEGER NOT NULL, size INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS entries_used ON entries (used)",
    "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, packed BLOB NOT NULL)",
)
TABLES = {"spaces", "models", "entries", "vectors"}
KEYS = 500  # in one statement; SQLite before 3.32 takes 999
TOUCH = 600  # seconds after which a use is noted again: a corpus read twice in a row is not written twice
WAL_SHARE, WAL_MOST = 8, 16_000_000  # of the bytes allowed, what is left to the log beside the file
PATIENCE = 200  # milliseconds to wait for others in one try to empty the log
PAUSE = 0.005  # seconds between tries
EVICTED = 32  # a clean-up frees at least this part of the file, so that not every write needs one
VACUUMED = 64  # pages given back at a time
Row = tuple[bytes, bytes]  # key, packed vector
_FIND = "SELECT key, packed, id, used FROM entries JOIN vectors USING (id) WHERE key IN ({})"
_COUNT_VECTORS = "SELECT count(vectors.id) FROM entries LEFT JOIN vectors USING (id) WHERE key = ?"
_USAGE = (
    "SELECT label, count(*), sum(size) FROM entries JOIN spaces ON spaces.id = space GROUP BY space ORDER BY 3 DESC"
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of the cache by one space."""

    space: str
    entries: int
    size: int


class VectorTable:
    """An open file. Serves several threads, one at a time; other processes may have it open too.

    Args:
        connection: open, in autocommit mode to a file with SCHEMA.
        limit: bytes that file and log may take.
        clock: seconds since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, *, limit: int, clock: Callable[[], float]) -> None:
        self._db, self._clock, self._lock = connection, clock, threading.RLock()
        self._page, self._timeout = self._pragma("page_size"), self._pragma("busy_timeout")
        self._log_bytes = log = min(limit // WAL_SHARE, WAL_MOST)
        self._log_path = f"{connection.execute('PRAGMA database_list').fetchone()[2]}-wal"
        self._transaction_bytes, self._largest_vector = log // 8, log // 2  # bytes of vectors in a transaction, of one
        self._max_pages = (limit - log) // self._page
        # Without a sync a power cut, though no kill, may spoil the file; checksums tell, and it is only a cache.
        for pragma in ("synchronous=OFF", "cache_size=-16384", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed vectors of the keys that exist; they count as used now."""
        now = int(self._clock())
        packed_vectors, stale = {}, []
        with self._lock:
            for start in range(0, len(keys), KEYS):
                piece = keys[start : start + KEYS]
                places = ",".join("?" * len(piece))
                for key, packed, identifier, used in self._db.execute(_FIND.format(places), piece):
                    if isinstance(key, bytes):  # of a damaged file anything may come
                        packed_vectors[key] = packed
                    if used <= now - TOUCH:
                        stale.append((now, identifier))
            if stale:
                with self._writing():
                    self._db.executemany("UPDATE entries SET used = ? WHERE id = ?", stale)
        return packed_vectors

    def store(self, digest: bytes, label: str, rows: Sequence[Row]) -> None:
        """Store the rows, in one transaction unless they are very large; an existing key stays as it is.

        Where another process keeps the log from being emptied this waits for it, as for a process that writes.

        Raises:
            sqlite3.OperationalError: it waited for as long as `opening.BUSY` says.
        """
        self._shrink()
        for piece in self._transactions(rows):
            with self._lock:
                self._wait_for_log()
                with self._writing():
                    self._make_room(piece)
                    self._db.execute("INSERT OR IGNORE INTO spaces (digest, label) VALUES (?, ?)", (digest, label))
                    ((identifier,),) = self._db.execute("SELECT id FROM spaces WHERE digest = ?", (digest,))
                    self._insert(int(identifier), piece)

    def model(self, name: bytes, canaries: str, alike: Callable[[str, str], bool]) -> str:
        """The canaries by which a model is known: the first similar ones of this name, else these from now on."""
        with self._lock, self._writing():
            for (recorded,) in self._db.execute("SELECT canaries FROM models WHERE name = ? ORDER BY id", (name,)):
                if alike(canaries, recorded):
                    return str(recorded)
            self._db.execute("INSERT INTO models (name, canaries) VALUES (?, ?)", (name, canaries))
            return canaries

    def drop(self, keys: Sequence[bytes]) -> None:
        """Delete these keys."""
        with self._lock, self._writing():
            ids = [self._db.execute("SELECT id FROM entries WHERE key = ?", (key,)).fetchone() for key in keys]
            self._delete([identifier for identifier in ids if identifier])

    def usage(self) -> list[Usage]:
        """Usage by space, the largest first."""
        with self._lock:
            rows = self._db.execute(_USAGE).fetchall()
        return [Usage(*row) for row in rows]

    def size(self) -> int:
        """Size of the file, its log aside."""
        with self._lock:
            return self._page * self._pragma("page_count")

    def clear(self) -> None:
        """Delete everything, and return the space to the file system."""
        with self._lock:
            with self._writing():
                for table in sorted(TABLES):
                    self._db.execute(f"DELETE FROM {table}")
            self._vacuum(self._pragma("freelist_count"))
            self._empty_log()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _insert(self, space: int, rows: Sequence[Row]) -> None:
        now = int(self._clock())
        for key, packed in rows:
            entry = self._db.execute(
                "INSERT OR IGNORE INTO entries (key, space, used, size) VALUES (?, ?, ?, ?)",
                (key, space, now, len(packed)),
            )
            if entry.rowcount:
                self._db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (entry.lastrowid, packed))
            elif self._db.execute(_COUNT_VECTORS, (key,)).fetchone() != (1,):  # damage; else another process was first
                raise ValueError("an entry of the cache has no vector")

    def _make_room(self, rows: Sequence[Row]) -> None:
        """Drop the least recently used entries until the rows fit, then some more."""
        needed = 2 * sum(len(packed) for _, packed in rows) // self._page + 2 * len(rows) // 100 + 16
        if self._free() >= needed:
            return
        target = max(needed, self._max_pages // EVICTED)
        while (missing := target - self._free()) > 0 and self._evict(missing * self._page):
            pass

    def _evict(self, size: int) -> bool:
        """Drop about `size` bytes of vectors; False when nothing is left to drop."""
        rows, total = [], 0
        for identifier, entry_size in self._db.execute("SELECT id, size FROM entries ORDER BY used, id LIMIT 4096"):
            rows.append((identifier,))
            total += entry_size
            if total >= size:
                break
        self._delete(rows)
        return bool(rows)

    def _delete(self, ids: Sequence[tuple[int]]) -> None:
        for table in ("vectors", "entries"):
            self._db.executemany(f"DELETE FROM {table} WHERE id = ?", ids)

    def _free(self) -> int:
        """Number of pages that can still be filled; negative in a file made with a higher limit."""
        return self._max_pages - self._pragma("page_count") + self._pragma("freelist_count")

    def _shrink(self) -> None:
        """Shrink a file that was made with a higher limit, in steps that fit in the log."""
        with self._lock:
            while self._free() < 0 and self._log_size() <= self._log_bytes // 2:
                with self._writing():
                    if not self._evict(self._log_bytes // 4):
                        break
            surplus = min(self._pragma("page_count") - self._max_pages, self._pragma("freelist_count"))
            if surplus > 0:
                self._vacuum(surplus)

    def _vacuum(self, pages: int) -> None:
        for _ in range(0, pages, VACUUMED):
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUMED})")  # `execute` gives back a single page
            if not self._empty_log():
                return

    def _transactions(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """The rows in pieces for one transaction each, without vectors that are too large."""
        piece: list[Row] = []
        size = 0
        for row in rows:
            if len(row[1]) > self._largest_vector:
                continue
            if piece and size + len(row[1]) > self._transaction_bytes:
                yield piece
                piece, size = [], 0
            piece.append(row)
            size += len(row[1])
        if piece:
            yield piece

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        if self._log_size() > self._log_bytes // 4:
            self._empty_log()

    def _log_size(self) -> int:
        """Size of the log in bytes."""
        try:
            return os.stat(self._log_path).st_size
        except FileNotFoundError:
            return 0

    def _wait_for_log(self) -> None:
        """Wait until the log has room: a vector that is not stored would be encoded again.

        A read lasts microseconds, unless its process is stopped meanwhile; then this may wait for seconds.
        """
        end = time.monotonic() + self._timeout / 1000
        while self._log_size() > self._log_bytes // 2 and not self._empty_log():
            if time.monotonic() > end:
                seconds = self._timeout / 1000
                raise sqlite3.OperationalError(
                    f"another process has kept the log of the cache in use for {seconds:g} s"
                )
            time.sleep(PAUSE)  # SQLite does not wait where another process is emptying the log at the same time

    def _empty_log(self) -> bool:
        """Write the log into the file, waiting a moment for readers; returns whether it worked.

        SQLite's own way waits for nobody, so between several busy processes the log would grow for ever.
        """
        self._db.execute(f"PRAGMA busy_timeout={PATIENCE}").fetchall()
        try:
            ((busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return not busy
        finally:
            self._db.execute(f"PRAGMA busy_timeout={self._timeout}").fetchall()

    def _pragma(self, name: str) -> int:
        ((value,),) = self._db.execute(f"PRAGMA {name}")
        return int(value)
