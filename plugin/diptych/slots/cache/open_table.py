"""Finds and opens the cache file: creates it, refuses a foreign file, and replaces a damaged one.

Two lock files stand beside it. `opening` is held while a process opens or replaces the file; `users` is shared by all
that have it open. A damaged file is replaced only when nobody else has it open: SQLite finds its log by name, so a
process with the old file open would delete the log of the new one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import portalocker

from diptych.config.models import CacheConfig
from diptych.errors import DiptychError
from diptych.runtime.environment import interpolate
from diptych.slots.cache.table import PAGE, SCHEMA, TABLES, VectorTable

FORMAT = 1  # in the name too: releases that write different formats leave each other's files alone
FILE = f"embeddings-{FORMAT}.sqlite"
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
    make_folder(folder)
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
        folder, limit, clock, f"the embedding cache was damaged and is replaced; the old file: {_damaged_path(folder)}"
    )


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its log the same rights
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        if not tables:
            for pragma in (f"page_size={PAGE}", "auto_vacuum=INCREMENTAL", "journal_mode=WAL"):
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
        os.replace(folder / FILE, _damaged_path(folder))
        for suffix in ("-wal", "-shm"):
            (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
    return True


def _damaged_path(folder: Path) -> Path:
    return folder / f"{FILE}.damaged"


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
    return Path(path).expanduser().absolute() if path else _of_the_user()


def make_folder(folder: Path) -> None:
    """Create the folder, readable only by the user: vectors reveal much about their texts.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _of_the_user() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("diptych", appauthor=False)
