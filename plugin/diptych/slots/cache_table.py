"""`VectorTable`: packed vectors by key in one SQLite file of limited size; the least recently used are dropped first.

| table | holds |
|---|---|
| `spaces` | what made vectors, in words, for those who look |
| `models` | canaries of models that can change behind their names |
| `entries` | key, space, size and when it was last used: small rows, all that a clean-up reads |
| `vectors` | the packed vector of an entry, in the order of arrival: a corpus read again is read from front to back |

Every method raises `sqlite3.Error` when the file fails. `open_table` creates it, refuses a foreign one, and replaces a
damaged one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import portalocker

from diptych.config.models import CacheConfig
from diptych.errors import DiptychError
from diptych.runtime.environment import interpolate

FORMAT = 1  # in the name too: releases that write different formats leave each other's files alone
FILE = f"embeddings-{FORMAT}.sqlite"
DAMAGED = f"{FILE}.damaged"  # its name once it is replaced
APPLICATION = 0x44697074  # "Dipt", where SQLite keeps whose file it is
BUSY = 30.0  # seconds to wait for another process, which a busy machine may not run for many of them
_DAMAGED = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # tables or columns of ours are gone
    sqlite3.SQLITE_CONSTRAINT,  # rows contradict one another
    sqlite3.SQLITE_MISMATCH,
)
VARIABLE = "DIPTYCH_CACHE"
OFF = "off"

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
JOURNAL_SHARE, JOURNAL_MOST = 8, 16_000_000  # of the bytes allowed, what is left to the journal beside the file
VACUUMED = 64  # pages given back at a time
Row = tuple[bytes, bytes]  # key, packed vector
_FIND = "SELECT key, packed, id, used FROM entries JOIN vectors USING (id) WHERE key IN ({})"
_NEW_ENTRY = "INSERT OR IGNORE INTO entries (key, space, used, size) VALUES (?, ?, ?, ?)"
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
        limit: bytes that file and journal may take.
        clock: seconds since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, *, limit: int, clock: Callable[[], float]) -> None:
        self._db, self._clock, self._lock = connection, clock, threading.RLock()
        self._page = self._pragma("page_size")
        journal = min(limit // JOURNAL_SHARE, JOURNAL_MOST)
        self._transaction_bytes, self._largest_vector = journal // 8, journal // 2  # bytes of vectors
        self._cleaned = journal // 4  # bytes that a clean-up drops at a time: many writes share one
        self._max_pages = (limit - journal) // self._page
        # Without a sync a power cut, though no kill, may spoil the file; checksums tell, and it is only a cache.
        for pragma in ("synchronous=OFF", "cache_size=-16384"):
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

        Raises:
            sqlite3.OperationalError: another process has read or written for as long as `BUSY` says.
        """
        self._shrink()
        for piece in self._transactions(rows):
            with self._lock, self._writing():
                # Drop the least recently used entries until the piece fits, then some more.
                needed = 2 * sum(len(packed) for _, packed in piece) // self._page + 2 * len(piece) // 100 + 16
                target = max(needed, self._cleaned // self._page) if self._free() < needed else 0
                while (missing := target - self._free()) > 0 and self._evict(missing * self._page):
                    pass
                self._db.execute("INSERT OR IGNORE INTO spaces (digest, label) VALUES (?, ?)", (digest, label))
                ((identifier,),) = self._db.execute("SELECT id FROM spaces WHERE digest = ?", (digest,))
                now = int(self._clock())
                for key, packed in piece:
                    entry = self._db.execute(_NEW_ENTRY, (key, int(identifier), now, len(packed)))
                    if entry.rowcount:
                        self._db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (entry.lastrowid, packed))
                    elif self._db.execute(_COUNT_VECTORS, (key,)).fetchone() != (1,):
                        raise ValueError("an entry of the cache has no vector")  # else another process was first

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
        """Size of the file, its journal aside."""
        with self._lock:
            return self._page * self._pragma("page_count")

    def clear(self) -> None:
        """Delete everything, and return the space to the file system."""
        with self._lock:
            with self._writing():
                for table in sorted(TABLES):
                    self._db.execute(f"DELETE FROM {table}")
            self._vacuum(self._pragma("freelist_count"))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

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
        """Shrink a file that was made with a higher limit, in steps that fit in the journal."""
        with self._lock:
            while self._free() < 0:
                with self._writing():
                    if not self._evict(self._cleaned):
                        break
            surplus = min(self._pragma("page_count") - self._max_pages, self._pragma("freelist_count"))
            if surplus > 0:
                self._vacuum(surplus)

    def _vacuum(self, pages: int) -> None:
        for _ in range(0, pages, VACUUMED):
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUMED})")  # `execute` gives back a single page

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

    def _pragma(self, name: str) -> int:
        ((value,),) = self._db.execute(f"PRAGMA {name}")
        return int(value)


class CacheError(DiptychError):
    """The embedding cache cannot be used; work continues without it."""


class DamagedCache(CacheError):
    """The file is, or was, a cache of diptych, but is damaged."""


@dataclass(frozen=True)
class OpenTable:
    """An open cache file, and a notice if a damaged one was replaced.

    Args:
        table: the vectors.
        notice: that a damaged file was renamed, and how; "" when all was well.
    """

    table: VectorTable
    notice: str
    _users: IO[bytes] = field(repr=False)

    def close(self) -> None:
        """Close the file and let others replace it."""
        try:
            self.table.close()
        finally:
            self._users.close()


def open_table(folder: Path, *, limit: int, clock: Callable[[], float]) -> OpenTable:
    """The cache file in `folder`, created when missing.

    Raises:
        CacheError: it is not a cache of diptych, or damaged and open elsewhere.
        OSError, sqlite3.Error: the folder or the file cannot be used.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)  # the user's alone: vectors reveal much about their texts
    with _exclusive(folder / "opening.lock"):
        return _open(folder, limit, clock, "")


def rename_damaged(folder: Path) -> bool:
    """Rename a damaged file, unless another process has it open; returns whether it was renamed."""
    with _exclusive(folder / "opening.lock"):
        return _rename_damaged(folder)


def is_damage(error: BaseException) -> bool:
    """Whether the error means that the content of the file is broken.

    A value of another type than was written, or a name that is not text, is an error of Python's.
    """
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
    return isinstance(error, DamagedCache | TypeError | ValueError | LookupError | ArithmeticError)


def _open(folder: Path, limit: int, clock: Callable[[], float], notice: str) -> OpenTable:
    users = _lock(folder / "users.lock", portalocker.LockFlags.SHARED)
    try:
        return OpenTable(VectorTable(_connect(folder / FILE), limit=limit, clock=clock), notice, users)
    except Exception as error:  # of a damaged file anything may come
        users.close()
        if notice or not is_damage(error):
            raise
        if not _rename_damaged(folder):
            raise CacheError(
                "the embedding cache is damaged, and another process has it open",
                where=folder / FILE,
                do="the first run that uses it alone replaces it",
            ) from error
    except BaseException:
        users.close()
        raise
    return _open(
        folder, limit, clock, f"the embedding cache was damaged and is replaced; the old file: {folder / DAMAGED}"
    )


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its journal the same rights
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        with suppress(sqlite3.OperationalError):  # an earlier release has it open, with its log
            connection.execute("PRAGMA journal_mode=TRUNCATE").fetchall()
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        if not tables:
            for pragma in (f"page_size={PAGE}", "auto_vacuum=INCREMENTAL"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            settings = (f"PRAGMA application_id={APPLICATION}", f"PRAGMA user_version={FORMAT}")
            for statement in ("BEGIN IMMEDIATE", *SCHEMA, *settings, "COMMIT"):
                connection.execute(statement)
        _require_ours(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    header = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if header != (APPLICATION, FORMAT):
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables == TABLES:
            raise DamagedCache("the header of the embedding cache is damaged", where=path, got=header)
        raise CacheError(
            "the embedding cache's file is a database of another program",
            where=path,
            got=f"application {header[0]:#x}, version {header[1]}",
            expected=f"application {APPLICATION:#x}, version {FORMAT}",
            do="give the cache another folder: cache.path in diptych.yaml, or DIPTYCH_CACHE",
        )


def _rename_damaged(folder: Path) -> bool:
    try:
        users = _lock(folder / "users.lock", portalocker.LockFlags.EXCLUSIVE)
    except portalocker.LockException:
        return False
    with closing(users):
        for suffix in ("-journal", "-wal", "-shm"):  # first: the new file must not meet the old one's journal
            (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
        os.replace(folder / FILE, folder / DAMAGED)
    return True


def _lock(path: Path, flag: portalocker.LockFlags) -> IO[bytes]:
    file = path.open("ab")
    try:
        portalocker.lock(file, flag | portalocker.LockFlags.NON_BLOCKING)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    try:
        with portalocker.Lock(path, "ab", timeout=BUSY, check_interval=0.01):
            yield
    except portalocker.LockException as error:
        raise CacheError("another process keeps the embedding cache locked", where=path) from error


def cache_folder(config: CacheConfig) -> Path | None:
    """The folder: from DIPTYCH_CACHE, else the config, else the user's cache folder; None when the cache is off.

    Raises:
        ConfigError: `cache.path` refers to a variable that is not set.
    """
    variable = os.environ.get(VARIABLE, "")
    if variable.lower() == OFF or not config.enabled:
        return None
    path = variable or interpolate(config.path or "", where="cache.path")
    from platformdirs import user_cache_path

    return Path(path).expanduser().absolute() if path else user_cache_path("diptych", appauthor=False)
