"""All collections under one path and their aliases, in one engine that several clients of a process share."""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import NoReturn, Protocol

from pydantic import TypeAdapter
from qdrant_client import models

from diptych.errors import CollectionError, CollectionNotFound, StoreDamaged, StoreError, brief
from diptych_edge.engine.collection import EdgeCollection
from diptych_edge.engine.folders import (
    COLLECTIONS,
    ENDING,
    FORMAT,
    LOCK,
    PATIENCE,
    RECORD,
    UNFINISHED,
    PathLock,
    folder_name,
    opening,
    prepare,
    read_json,
    scan,
    sweep,
    sync_folder,
    validated,
    without_record,
    write_json,
)
from diptych_edge.health.repair import RepairReport, repair

_LOGGER = logging.getLogger(__name__)
_ENGINES: dict[Path, Engine] = {}
_OPENING: dict[Path, RLock] = {}  # opening one store may take long, and does not hold up another
_GUARD = RLock()
_register: Callable[..., None] | None = getattr(os, "register_at_fork", None)  # no Windows

ALIASES = "aliases.json"
_SURROGATES = re.compile("[\ud800-\udfff]")  # UTF-8 cannot hold them
_ALIASES = TypeAdapter(dict[str, str])
_FORBIDDEN = frozenset('<>:"/\\|?*\0\x1f')  # what a server refuses in a name


class Catalog:
    """Finds, creates and deletes the collections of a path; opens each at its first use.

    Raises:
        StoreLocked: another client has the path open.
        StoreError: the path is somebody else's folder, cannot be a folder, or has damaged records;
            or there is no store and `create` is false.
    """

    def __init__(self, root: Path, *, create: bool, patience: float = PATIENCE) -> None:
        self._mutex, self._closed = RLock(), False
        self._opened: dict[str, EdgeCollection] = {}
        with opening(root):
            self.root, self._home, self._lock = root, prepare(root, create=create), PathLock(root, patience=patience)
            try:
                self._folders, self._lost = scan(self._home)
                path = root / ALIASES
                aliases = read_json(path).get("aliases") if path.exists() else {}
                self.aliases: dict[str, str] = validated(_ALIASES, aliases, path)
            except BaseException:
                self._lock.release()
                raise

    def names(self) -> list[str]:
        """All collections, sorted."""
        self._check_open()
        return sorted(self._folders)

    def find(self, name: str) -> EdgeCollection:
        """The collection of this name or alias.

        Raises:
            CollectionNotFound: there is none; the text lists those that exist.
            StoreError: its record is lost.
        """
        collection = self._opened.get(name)
        if collection is not None:
            return collection
        self._check_open()
        with self._mutex:
            real_name = name if name in self._folders else self.aliases.get(name, name)
            if real_name not in self._folders:
                self._check_lost(real_name)
                existing = ", ".join([*self.names(), *self.aliases]) or "the store is empty"
                raise CollectionNotFound(
                    f"there is no collection {name!r}", where=f"edge:{self.root}", expected=existing
                )
            if real_name not in self._opened:
                self._prepare(self._folders[real_name])
                self._opened[real_name] = EdgeCollection.load(self._folders[real_name])
            return self._opened[real_name]

    def _prepare(self, folder: Path) -> None:
        """Called before the collection in `folder` is opened."""

    def create(self, name: str, config: models.CreateCollection) -> None:
        """Create an empty collection.

        Raises:
            CollectionError: the name is taken, or cannot be one.
        """
        self._check_open()
        check_name(name, "collection")
        with self._mutex:
            if name in self._folders or name in self.aliases:
                kind = "a collection" if name in self._folders else "an alias"
                raise CollectionError(f"there is {kind} {name!r} already", where=f"edge:{self.root}")
            self._check_lost(name)
            folder = self._home / folder_name(name)
            folder.mkdir(exist_ok=True)
            sync_folder(self._home)
            try:
                self._opened[name] = EdgeCollection.create(folder, name, config)
            except BaseException:
                sweep(folder)
                raise
            self._folders[name] = folder

    def delete(self, name: str) -> bool:
        """Delete a collection with its points and aliases; False if it does not exist."""
        self._check_open()
        with self._mutex:
            folder = self._folders.pop(name, None)
            if folder is None:
                self._check_lost(name)
                return False
            collection = self._opened.pop(name, None)
            (folder / RECORD).replace(folder / UNFINISHED)  # from here on the rest is rubbish, whatever happens
            sync_folder(folder)
            self.set_aliases({alias: target for alias, target in self.aliases.items() if target != name})
        if collection is not None:
            collection.close()
        sweep(folder)
        return True

    def repair(self, name: str) -> RepairReport | None:
        """Rebuild a damaged collection from what can be read; None if it opens as it is.

        Raises:
            CollectionNotFound: there is none of this name.
            StoreError: its record is damaged, or the disk has too little space.
        """
        with self._mutex:
            try:
                self.find(name)
            except StoreDamaged:
                return repair(self._folders[self.aliases.get(name, name)])
        return None

    def set_aliases(self, aliases: dict[str, str]) -> None:
        """Replace all aliases at once."""
        with self._mutex:
            if aliases != self.aliases:
                write_json(self.root / ALIASES, {"format": FORMAT, "aliases": aliases})
                self.aliases = aliases

    def opened(self) -> Sequence[EdgeCollection]:
        """The collections that are open now."""
        return list(self._opened.values())

    @property
    def in_place(self) -> bool:
        """Whether the folder is still the one that was opened."""
        return self._lock.in_place

    def say(self, state: str = "") -> None:
        """Tell other processes that this one is starting, ready or ending, since starting and ending may take long."""
        with suppress(OSError):  # a full disk: they wait less long
            self._lock.say(state)

    def leave_to_parent(self) -> None:
        """In a forked process: drop everything without flushing or closing, because it belongs to the parent."""
        self._mutex, self._closed, self._opened = RLock(), True, {}
        self._lock.leave_to_parent()

    def close(self) -> None:
        """Flush and close everything and release the lock; a second call does nothing.

        Raises:
            StoreError: a collection could not be flushed or closed. The others were; further failures are its notes.
        """
        failures = list[BaseException]()
        with self._mutex:
            self._closed = True
            removed = not self._lock.in_place  # what a removed folder held cannot be flushed, nor is it wanted
            while self._opened:  # all, whatever becomes of one: the lock must not be free while an engine is open
                try:
                    self._opened.popitem()[1].close()
                except BaseException as error:
                    if not (removed and isinstance(error, Exception)):
                        failures.append(error)
            self._lock.release()
        if failures:
            first, *others = failures
            for other in others:
                first.add_note(f"also: {other}")
            raise first

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self.root)

    def _check_lost(self, name: str) -> None:
        folder = self._home / folder_name(name)
        if folder in self._lost:
            raise without_record(folder)


class ClosedCatalog:
    """The catalog of a closed client: any use raises StoreError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getattr__(self, name: str) -> NoReturn:
        raise closed(self._root)


def closed(root: Path) -> StoreError:
    """The error for a closed client, or for a parent's client in a forked process."""
    do = "open a new EdgeClient; after a fork the client is the parent's alone"
    return StoreError("the embedded store is closed", where=f"edge:{root}", do=do)


def check_name(name: str, kind: str) -> None:
    """Refuse collection, alias and vector names that a server refuses."""
    limit = 200 if kind == "vector" else 255
    usable = isinstance(name, str) and not _SURROGATES.search(name) and name not in ("", ".", "..")
    if not usable or _FORBIDDEN & set(name) or len(name.encode()) > limit:
        raise CollectionError(
            f"this cannot be the name of {'an' if kind == 'alias' else 'a'} {kind}",
            got=brief(name),
            expected=f"1 to {limit} bytes, none of {' '.join(sorted(_FORBIDDEN - set(chr(0) + chr(31))))}",
        )


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


if _register is not None:
    _register(after_in_child=_after_fork)
