"""All collections under one path, and their aliases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import NoReturn

from pydantic import TypeAdapter
from qdrant_client import models

from diptych.errors import CollectionError, CollectionNotFound, StoreDamaged, StoreError, brief
from diptych_edge.engine.collection import EdgeCollection
from diptych_edge.engine.folders import (
    PATIENCE,
    PathLock,
    folder_name,
    opening,
    prepare,
    scan,
    sweep,
    without_record,
)
from diptych_edge.engine.sidecar import FORMAT, RECORD, UNFINISHED, read_json, sync_folder, validated, write_json
from diptych_edge.health.repair import RepairReport, repair

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
                self.aliases = _aliases(root / ALIASES)
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
                raise self._not_found(name)
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

    def _not_found(self, name: str) -> CollectionNotFound:
        existing = ", ".join([*self.names(), *self.aliases]) or "the store is empty"
        return CollectionNotFound(f"there is no collection {name!r}", where=f"edge:{self.root}", expected=existing)


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


def _aliases(path: Path) -> dict[str, str]:
    aliases: dict[str, str] = validated(_ALIASES, read_json(path).get("aliases"), path) if path.exists() else {}
    return aliases
