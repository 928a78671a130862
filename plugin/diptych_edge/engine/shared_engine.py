"""The engine of a path in this process: opened once, shared by all clients, closed with the last one."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Protocol

from diptych_edge.engine.catalog import Catalog
from diptych_edge.engine.collection import EdgeCollection
from diptych_edge.engine.folders import COLLECTIONS, ENDING, LOCK

_LOGGER = logging.getLogger(__name__)
_ENGINES: dict[Path, Engine] = {}
_OPENING: dict[Path, RLock] = {}  # opening one store may take long, and does not hold up another
_GUARD = RLock()


class Holder(Protocol):
    """A server for other processes."""

    def close(self) -> None:
        """End."""
        ...

    def leave_to_parent(self) -> None:
        """In a forked process: release the copies of the parent's resources."""
        ...


class Engine:
    """An open store: its catalog, running optimisations, and the server for other processes."""

    def __init__(self, path: Path, *, create: bool, patience: float) -> None:
        self.path, self.catalog = path, Catalog(path, create=create, patience=patience)
        self.futures: dict[EdgeCollection, Future[bool]] = {}
        self.starting = RLock()
        self._users, self._process = 0, os.getpid()
        self.holder: Holder | None = None

    @classmethod
    def join(cls, path: Path, *, create: bool, patience: float, serve: Callable[[Engine], Holder] | None) -> Engine:
        """The engine of `path` for one more user, who must call `leave` once.

        Args:
            create: make the store where there is none.
            patience: seconds to keep trying while another process has it.
            answer: starts serving other processes, if that is wanted.

        Raises:
            StoreLocked: another process has it.
            StoreError: see `Catalog`.
        """
        with _opening_of(path):
            engine = _ENGINES.get(path)
            if engine is None or not engine.catalog.in_place:  # the folder was removed or replaced under an open client
                engine = _ENGINES[path] = cls(path, create=create, patience=patience)
            engine._users += 1
            if serve is not None and engine.holder is None:
                engine.holder = _start_holder(engine, serve)
            if engine._users == 1:
                engine.catalog.say()
            return engine

    def leave(self) -> None:
        """Remove one user; the last one flushes and closes the store, and other processes can open it."""
        if os.getpid() != self._process:
            return  # a forked process has a copy of this object, and no part in the store
        with _opening_of(self.path):
            self._users -= 1
            if not self._users:
                if _ENGINES.get(self.path) is self:
                    del _ENGINES[self.path]
                try:
                    self.catalog.say(ENDING)
                    if self.holder is not None:
                        self.holder.close()
                finally:
                    self.catalog.close()

    def leave_to_parent(self) -> None:
        """In a forked process: drop the parent's store without touching it."""
        for collection in self.catalog.opened():
            keep_for_ever(collection.shard)
        self.catalog.leave_to_parent()
        if self.holder is not None:
            self.holder.leave_to_parent()


def _opening_of(path: Path) -> RLock:
    with _GUARD:
        return _OPENING.setdefault(path, RLock())


def _start_holder(engine: Engine, serve: Callable[[Engine], Holder]) -> Holder | None:
    """The server for other processes; None if no socket can be created, so this process uses the store alone."""
    try:
        return serve(engine)
    except OSError as error:
        _LOGGER.warning("edge:%s cannot be shared with other processes: %s", engine.path, error)
        return None


def keep_for_ever(thing: object) -> None:
    """Never collect `thing`, not even at exit: its destructor would close or flush what another process owns."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    """In a forked child: drop the copies of the parent's engines and files, which only the parent may use.

    Were the files left open, they would hold the store's locks after the parent's end.
    """
    global _GUARD
    inherited, paths = list(_ENGINES.values()), list(_OPENING)
    _ENGINES.clear()
    _OPENING.clear()
    _GUARD = RLock()  # another thread of the parent may have held it
    for engine in inherited:
        engine.leave_to_parent()
    for path in paths:  # also those that another thread was opening just then
        _close_files(path)


def _close_files(root: Path) -> None:
    """Close this process's files of a store, where the system lists them (Linux)."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the listing itself is closed by now
                file = Path(os.readlink(f"/proc/self/fd/{name}"))
                if file == root / LOCK or file.is_relative_to(root / COLLECTIONS):
                    os.close(int(name))


_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)  # no Windows
if _register is not None:
    _register(after_in_child=_after_fork)
