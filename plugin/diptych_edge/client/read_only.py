"""Reads a store without changing it, such as one in an image: no lock, no socket, no file written to it.

Edge opens all its files for writing and fails where it cannot (tried with 0.9.0), so a collection is copied into a
temporary folder when it is first used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import portalocker

from diptych.errors import StoreError, StoreLocked, StoreReadOnly
from diptych.runtime.untrusted import plain_file
from diptych_edge.client.base import refuse
from diptych_edge.client.edge_client import EdgeClient
from diptych_edge.engine.catalog import ALIASES, Catalog
from diptych_edge.engine.folders import COLLECTIONS, LOCK, RECORD, Record, opening
from diptych_edge.health.repair import copy_sparse

WRITES = (
    "upsert", "upload_points", "upload_collection", "update_vectors", "delete_vectors", "delete", "set_payload",
    "overwrite_payload", "delete_payload", "clear_payload", "batch_update_points", "create_collection",
    "recreate_collection", "delete_collection", "update_collection", "update_collection_aliases", "create_vector_name",
    "delete_vector_name", "create_payload_index", "delete_payload_index", "optimize", "repair",
)  # fmt: skip


class ReadOnlyEdgeClient(EdgeClient):
    """An `EdgeClient` for a store on a read-only medium. Calls that write raise `StoreReadOnly`.

    Writes of others after the first use of a collection are not visible. The copies lie in the system's temporary
    folder (`TMPDIR`), and are removed when the client is closed.

    Raises:
        StoreError: there is no store.
        StoreLocked: a process has the store open for writing; also raised at the first use of a collection.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if not (self.path / COLLECTIONS).is_dir():
            raise StoreError("there is no embedded store here", where=f"edge:{self.path}", do="check the path")
        copies = Path(tempfile.mkdtemp(prefix="diptych-read-only-"))
        try:
            catalog = _CopyingCatalog(self.path, copies)
        except BaseException:
            shutil.rmtree(copies, ignore_errors=True)
            raise
        self._catalog, self._futures, self._starting = catalog, {}, RLock()
        self._finalizer = weakref.finalize(self, _removed, catalog, copies, os.getpid())

    def needs_optimizing(self, collection_name: str) -> bool:
        """False, since a read-only store cannot be optimised."""
        self._find(collection_name)
        return False


class _CopyingCatalog(Catalog):
    """A catalog that copies each collection at its first use."""

    def __init__(self, source: Path, copies: Path) -> None:
        self._source = source
        with _unchanged(source):
            for folder in sorted((source / COLLECTIONS).iterdir()):
                if (folder / RECORD).is_file():
                    (copies / COLLECTIONS / folder.name).mkdir(parents=True)
                    shutil.copyfile(folder / RECORD, copies / COLLECTIONS / folder.name / RECORD)
            if (source / ALIASES).is_file():
                shutil.copyfile(source / ALIASES, copies / ALIASES)
        super().__init__(copies, create=True)
        self.root = source  # what errors name

    def _prepare(self, folder: Path) -> None:
        """Copy the data of a collection that its record currently names."""
        original = self._source / COLLECTIONS / folder.name
        with opening(self._source), _unchanged(self._source):
            shutil.copyfile(original / RECORD, folder / RECORD)
            shard = Record.read(folder).shard
            _copy(original / shard, folder / shard)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with the holes of its files, but without its modes, which may forbid writing."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        elif path.is_file():
            copy_sparse(str(path), str(target / path.name))


@contextmanager
def _unchanged(root: Path) -> Iterator[None]:
    """Keep writers out within the block. Readers do not block each other, and nothing is written."""
    try:
        lock = open(root / LOCK, encoding="ascii", opener=plain_file)  # noqa: SIM115 - closed below
    except OSError:
        yield  # never opened where it lies, or not by this user
        return
    with lock:
        try:
            portalocker.lock(lock, portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException as error:
            raise StoreLocked(
                "the embedded store is open for writing, so it cannot be read beside its engine",
                where=f"edge:{root}",
                got=f"held by process {lock.read().strip() or 'unknown'}",
                do="share it with that process: open it without mode=ro",
            ) from error
        try:
            yield
        finally:
            portalocker.unlock(lock)


def _removed(catalog: Catalog, copies: Path, process: int) -> None:
    if os.getpid() == process:  # a forked process has no part in the copies
        try:
            catalog.close()
        finally:
            shutil.rmtree(copies, ignore_errors=True)


def _would_change(client: ReadOnlyEdgeClient, name: str) -> StoreReadOnly:
    return StoreReadOnly(
        f"{name}() would change a store that was opened to be read only",
        where=f"edge:{client.path}",
        do="open it without mode=ro",
    )


refuse(ReadOnlyEdgeClient, WRITES, _would_change, "Raise StoreReadOnly.")
